"""Kubernetes resources: server-side apply, Helm's own binary, the waits of Pulumi's provider."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes import dynamic

from rehearsal.cluster.control_plane import client_of, write_private
from rehearsal.deploy.made import Made

_FIELD_MANAGER = "rehearsal"
_WAIT_FOR = "pulumi.com/waitFor"
_ROLLED_OUT = {"Deployment", "DaemonSet", "StatefulSet"}


class KubernetesApplier:
    """Applies to the clusters the program makes providers for."""

    def __init__(self, parts: Mapping[str, Path], folder: Path) -> None:
        self._parts = parts
        self._folder = folder
        self._clusters: dict[str, Path] = {}
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add_cluster(self, name: str, kubeconfig: str) -> None:
        """Take note of a provider and the kubeconfig it was given."""
        path = self._folder / f"{name}.kubeconfig"
        write_private(path, kubeconfig)
        self._clusters[name] = path

    def apply(self, cluster: str, kind: str, inputs: Mapping[str, Any]) -> Made:
        """Apply one resource to a cluster and wait until it is what Pulumi calls ready.

        Raises:
            KeyError: when the program gave the resource no explicit provider.
        """
        kubeconfig = self._clusters[cluster]
        if kind == "kubernetes:helm.sh/v3:Release":
            return self._install(kubeconfig, inputs)
        return self._apply(kubeconfig, inputs)

    def _apply(self, kubeconfig: Path, manifest: Mapping[str, Any]) -> Made:
        kind, metadata = manifest["kind"], manifest["metadata"]
        with self._lock:  # discovery keeps a cache file that threads must not write together
            api = dynamic.DynamicClient(client_of(kubeconfig))  # type: ignore[no-untyped-call]
            resource = api.resources.get(api_version=manifest["apiVersion"], kind=kind)
        found = resource.server_side_apply(
            body=dict(manifest),
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=_FIELD_MANAGER,
            force_conflicts=True,
        ).to_dict()
        namespace = ["-n", metadata["namespace"]] if metadata.get("namespace") else []
        target = f"{kind.lower()}.{_group(manifest['apiVersion'])}/{metadata['name']}".replace(
            "./", "/"
        )
        if kind in _ROLLED_OUT:
            self._kubectl(kubeconfig, "rollout", "status", *namespace, target, "--timeout=120s")
        if kind == "Job":
            self._kubectl(
                kubeconfig, "wait", *namespace, target, "--for=condition=Complete", "--timeout=120s"
            )
        for condition in _conditions(metadata):
            self._kubectl(
                kubeconfig, "wait", *namespace, target, f"--for={condition}", "--timeout=120s"
            )
        name = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
        return Made(id=name, outputs={"status": found.get("status", {})})

    def _install(self, kubeconfig: Path, inputs: Mapping[str, Any]) -> Made:
        repository = (inputs.get("repositoryOpts") or {}).get("repo")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=self._folder) as values:
            yaml.safe_dump(dict(inputs.get("values") or {}), values)
            values.flush()
            self._run(
                kubeconfig,
                self._parts["helm"],
                *("upgrade", "--install", inputs["name"], inputs["chart"]),
                *("--namespace", inputs["namespace"], "--version", inputs["version"]),
                *(("--repo", repository) if repository else ()),
                *("--values", values.name, "--wait", f"--timeout={inputs.get('timeout', 300)}s"),
            )
        status = {
            "name": inputs["name"],
            "namespace": inputs["namespace"],
            "status": "deployed",
            "version": inputs["version"],
        }
        return Made(id=f"{inputs['namespace']}/{inputs['name']}", outputs={"status": status})

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


def _group(api_version: str) -> str:
    """An API version's group with its version in front, as kubectl writes types; '' for core."""
    group, _, version = api_version.rpartition("/")
    return f"{version}.{group}" if group else ""


def _conditions(metadata: Mapping[str, Any]) -> list[str]:
    """What the annotation `pulumi.com/waitFor` asks to wait for."""
    text = (metadata.get("annotations") or {}).get(_WAIT_FOR)
    if not text:
        return []
    return list(json.loads(text)) if text.startswith("[") else [text]
