"""Putting another policy engine in force on a stage where the stack is deployed.

The stack's own program renders the policy, with `redirect.engine` changed in its config; only the
policy it registers is applied. The new one is in force before the old one goes.
"""

from __future__ import annotations

import json
import subprocess
import time
from enum import StrEnum
from typing import Any

import yaml
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

from rehearsal.deploy import embedded
from rehearsal.deploy.kubernetes_applier import KubernetesApplier
from rehearsal.deploy.stack import STACK, outputs_of, stack_config
from rehearsal.deploy.stack_file import StackConfig
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.locations import CHECKOUT
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from rehearsal.proof import in_force
from rehearsal.stage import Run

_SETTLE_SECONDS = 5.0
"""As long as the stack's own hook holds an update after a policy is made; hooks are the CLI's."""
_KUBERNETES_VERSION = "1.37"
_REDIRECT = "-redirect-"


class PolicyEngine(StrEnum):
    """The engines a redirect policy can be written for."""

    CLUSTER_POLICY = "ClusterPolicy"
    MUTATING_POLICY = "MutatingPolicy"
    MUTATING_ADMISSION_POLICY = "MutatingAdmissionPolicy"


_RESOURCES = {
    PolicyEngine.CLUSTER_POLICY: ("clusterpolicies.kyverno.io",),
    PolicyEngine.MUTATING_POLICY: ("mutatingpolicies.policies.kyverno.io",),
    PolicyEngine.MUTATING_ADMISSION_POLICY: (
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
    ),
}


class _PolicyOnly(Mocks):
    """Applies the redirect policy and takes everything else as it was deployed."""

    def __init__(
        self, kubernetes: KubernetesApplier, volcengine: VolcengineApplier, domain: str
    ) -> None:
        self._kubernetes = kubernetes
        self._volcengine = volcengine
        self._domain = domain
        self.names: set[str] = set()
        """The names of the policies applied."""

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        inputs = embedded.plain(args.inputs)
        state = dict(args.inputs)
        if args.typ == "pulumi:providers:kubernetes":
            self._kubernetes.add_cluster(args.name, inputs["kubeconfig"])
        elif args.typ == "volcengine:cr/registry:Registry":
            state |= {"domains": [{"domain": self._domain, "type": ""}], "username": ""}
        elif args.typ == "kubernetes:helm.sh/v3:Release":
            state["status"] = {key: inputs[key] for key in ("name", "namespace", "version")}
        elif args.custom and _REDIRECT in args.name:
            self._kubernetes.apply((args.provider or "").rpartition("::")[2], args.typ, inputs)
            self.names.add(inputs["metadata"]["name"])
        return args.name, state

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return self._volcengine.look_up(args.token, embedded.plain(args.args)), []


def switch(run: Run, engine: PolicyEngine, progress: Progress) -> None:
    """Put this engine's policy in force, then take the others' away.

    Raises:
        NotInTimeError: when `nginx` is not redirected by it in time.
        NotDeployedError: when the stack is not deployed.
    """
    domain = str(outputs_of(run)["domain"])
    parts = obtain(("kubernetes", "helm"), progress)
    applier = _PolicyOnly(
        KubernetesApplier(parts, run.folder / "engine"),
        VolcengineApplier(run.environment()),
        domain,
    )
    with progress.step(f"putting the {engine} in force"):
        embedded.run(CHECKOUT, STACK, _with_engine(stack_config(run), engine), applier)
        time.sleep(_SETTLE_SECONDS)
        for other, resources in _RESOURCES.items():
            if other is not engine:
                for resource in resources:
                    _delete(run, parts["kubectl"], resource, sorted(applier.names))
        in_force(run, domain)


def _with_engine(config: StackConfig, engine: PolicyEngine) -> StackConfig:
    """The stack's config with this engine; the native one serves public namespaces only."""
    values = dict(config.values)
    project = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["name"]
    values[f"{project}:redirect"] = json.dumps({"engine": engine})
    if engine is PolicyEngine.MUTATING_ADMISSION_POLICY:
        clusters = json.loads(values[f"{project}:clusters"])
        for cluster in clusters:
            cluster["kubernetesVersion"] = _KUBERNETES_VERSION
        values[f"{project}:clusters"] = json.dumps(clusters)
        registry = json.loads(values[f"{project}:registry"])
        for namespace in registry["namespaces"]:
            namespace["access"] = "Public"
        values[f"{project}:registry"] = json.dumps(registry)
    return StackConfig(values=values, secret_keys=config.secret_keys)


def _delete(run: Run, kubectl: Any, resource: str, names: list[str]) -> None:
    subprocess.run(
        [
            *(kubectl, "--kubeconfig", run.kubeconfig, "delete", resource, *names),
            *("--ignore-not-found", "--timeout=30s"),
        ],
        check=True,
        capture_output=True,
    )
