"""Kubernetes resources: server-side apply, Helm's own binary, the waits of Pulumi's provider."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, dynamic

from rehearsal.cluster.control_plane import client_of
from rehearsal.deploy.resources import Applied
from rehearsal.locations import write_private

_FIELD_MANAGER = "rehearsal"
_WAIT_FOR = "pulumi.com/waitFor"
_SKIP_AWAIT = "pulumi.com/skipAwait"
_RELEASE = "kubernetes:helm.sh/v3:Release"
_ROLLED_OUT = {"Deployment", "DaemonSet", "StatefulSet"}


class KubernetesApplier:
    """Applies to the clusters that the program has providers of."""

    def __init__(self, parts: Mapping[str, Path], folder: Path) -> None:
        self._parts = parts
        self._folder = folder
        self._lock = threading.Lock()
        self._clients: dict[Path, dynamic.DynamicClient] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add_cluster(self, name: str, kubeconfig: str) -> None:
        """Keep the kubeconfig of a provider, also for deletions in a later deployment."""
        write_private(self._kubeconfig(name), kubeconfig)

    def _kubeconfig(self, cluster: str) -> Path:
        return self._folder / f"{cluster}.kubeconfig"

    def apply(self, cluster: str, kind: str, inputs: Mapping[str, Any]) -> Applied:
        """Apply one resource to a cluster and wait until it is what Pulumi calls ready.

        Raises:
            RuntimeError: when it does not become ready, or has no explicit provider.
        """
        kubeconfig = self._kubeconfig(cluster)
        if kind == _RELEASE:
            return self._install(kubeconfig, inputs)
        return self._apply(kubeconfig, inputs)

    def delete(self, cluster: str, kind: str, identity: str) -> None:
        """Delete a resource by its id and wait until it is gone; one not there is no error.

        Raises:
            RuntimeError: when it cannot be deleted.
        """
        namespace, _, name = identity.rpartition("/")
        inside = ["-n", namespace] if namespace else []
        if kind == _RELEASE:
            command = ["uninstall", name, "--wait", "--ignore-not-found"]
        else:
            _, api_version, word = kind.split(":")
            target = _target(api_version.removeprefix("core/"), word, name)
            # in the foreground, as Pulumi's provider does: what it owns goes first
            command = ["delete", target, "--ignore-not-found", "--cascade=foreground"]
        program = self._parts["helm" if kind == _RELEASE else "kubectl"]
        self._run(self._kubeconfig(cluster), program, *command, *inside, "--timeout=120s")

    def _apply(self, kubeconfig: Path, manifest: Mapping[str, Any]) -> Applied:
        kind, metadata = manifest["kind"], manifest["metadata"]
        with self._lock:  # discovery keeps a cache file that threads must not write together
            if kubeconfig not in self._clients:
                self._clients[kubeconfig] = dynamic.DynamicClient(client_of(kubeconfig))  # type: ignore[no-untyped-call]
            api = self._clients[kubeconfig]
            resource = api.resources.get(api_version=manifest["apiVersion"], kind=kind)
        namespace = ["-n", metadata["namespace"]] if metadata.get("namespace") else []
        target = _target(manifest["apiVersion"], kind, metadata["name"])

        def applied() -> dict[str, Any]:
            found: dict[str, Any] = resource.server_side_apply(
                body=dict(manifest),
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                field_manager=_FIELD_MANAGER,
                force_conflicts=True,
            ).to_dict()
            return found

        try:
            found = applied()
        except client.ApiException as error:
            if "immutable" not in str(error.body):
                raise
            self._kubectl(kubeconfig, "delete", *namespace, target, "--timeout=120s")
            found = applied()
        if kind in _ROLLED_OUT and not _conditions(metadata):
            self._kubectl(kubeconfig, "rollout", "status", *namespace, target, "--timeout=120s")
        if kind == "Job" and _SKIP_AWAIT not in (metadata.get("annotations") or {}):
            self._kubectl(
                kubeconfig, "wait", *namespace, target, "--for=condition=Complete", "--timeout=120s"
            )
        for condition in _conditions(metadata):
            self._kubectl(
                kubeconfig, "wait", *namespace, target, f"--for={condition}", "--timeout=120s"
            )
        name = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
        assigned = {key: found["metadata"][key] for key in ("uid", "resourceVersion")}
        return Applied(
            id=name,
            outputs={"metadata": {**metadata, **assigned}, "status": found.get("status", {})},
        )

    def _install(self, kubeconfig: Path, inputs: Mapping[str, Any]) -> Applied:
        repository = (inputs.get("repositoryOpts") or {}).get("repo")
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        label = f"inputs={digest[:63]}"
        if not self._is_installed(kubeconfig, inputs, label):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=self._folder) as values:
                yaml.safe_dump(dict(inputs.get("values") or {}), values)
                values.flush()
                self._run(
                    kubeconfig,
                    self._parts["helm"],
                    *("upgrade", "--install", inputs["name"], inputs["chart"]),
                    *("--namespace", inputs["namespace"], "--version", inputs["version"]),
                    *(("--repo", repository) if repository else ()),
                    *("--values", values.name, "--labels", label),
                    *("--wait", f"--timeout={inputs.get('timeout', 300)}s"),
                )
        status = {
            "name": inputs["name"],
            "namespace": inputs["namespace"],
            "status": "deployed",
            "version": inputs["version"],
        }
        return Applied(id=f"{inputs['namespace']}/{inputs['name']}", outputs={"status": status})

    def _is_installed(self, kubeconfig: Path, inputs: Mapping[str, Any], label: str) -> bool:
        """Whether a release is deployed with these inputs; as in Pulumi, such a one stays."""
        releases: Any = client.CoreV1Api(client_of(kubeconfig)).list_namespaced_secret(
            inputs["namespace"],
            label_selector=f"owner=helm,name={inputs['name']},status=deployed,{label}",
        )
        return bool(releases.items)

    def _kubectl(self, kubeconfig: Path, *words: str) -> None:
        self._run(kubeconfig, self._parts["kubectl"], *words)

    def _run(self, kubeconfig: Path, *words: str | Path) -> None:
        done = subprocess.run(
            [str(word) for word in words],
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or done.stdout.strip())


def _target(api_version: str, kind: str, name: str) -> str:
    """A resource as kubectl names it, its type with version and group where it has a group."""
    group, _, version = api_version.rpartition("/")
    return f"{kind}.{version}.{group}/{name}" if group else f"{kind}/{name}"


def _conditions(metadata: Mapping[str, Any]) -> list[str]:
    """What the annotation `pulumi.com/waitFor` asks to wait for."""
    text = (metadata.get("annotations") or {}).get(_WAIT_FOR)
    if not text:
        return []
    return list(json.loads(text)) if text.startswith("[") else [text]
