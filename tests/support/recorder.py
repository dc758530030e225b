"""Runs the whole program under Pulumi mocks and keeps everything it registered."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pulumi
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, rpc
from pulumi.runtime.mocks import MockMonitor

from rehearsal.deploy.embedded import plain, run
from rehearsal.deploy.stack_file import StackConfig, read
from rehearsal.locations import CHECKOUT
from tests.support.configs import STACK_FILES

_STACK = "pulumi:pulumi:Stack"
KUBECONFIG = "apiVersion: v1\nkind: Config\n# key: kubeconfig-secret\n"


class Type(StrEnum):
    """Types of resources, as Pulumi names them."""

    REGISTRY = "volcengine:cr/registry:Registry"
    NAMESPACE = "volcengine:cr/namespace:Namespace"
    VPC = "volcengine:cr/vpcEndpoint:VpcEndpoint"
    ADDON = "volcengine:vke/addon:Addon"
    RELEASE = "kubernetes:helm.sh/v3:Release"
    POLICY = "kubernetes:kyverno.io/v1:ClusterPolicy"
    JOB = "kubernetes:batch/v1:Job"
    SECRET = "kubernetes:core/v1:Secret"
    DAEMON_SET = "kubernetes:apps/v1:DaemonSet"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One registration: what the program asked for, options included."""

    type: str
    name: str
    custom: bool
    raw: Mapping[str, Any]
    parent: str
    provider: str
    depends_on: tuple[str, ...]
    protect: bool
    ignore_changes: tuple[str, ...]
    delete_before_replace: bool
    before_create: tuple[str, ...]
    after_create: tuple[str, ...]
    after_update: tuple[str, ...]
    timeouts: tuple[str, str, str]
    """Create, update and delete, as the program gave them; empty for the provider's own."""
    urn: str
    parent_urn: str
    aliases: tuple[Any, ...]
    """Each alias as the engine gets it: `alias_pb2.Alias`."""

    @property
    def inputs(self) -> Any:
        """The inputs, secrets unwrapped."""
        return plain(self.raw)

    @property
    def shown(self) -> Any:
        """The inputs without what is secret in them."""
        return _without_secrets(self.raw)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of a redirect that is a ClusterPolicy."""
        (once,) = self.inputs["spec"]["rules"][0]["mutate"]["foreach"]
        (found,) = (each for each in once["context"] if each["name"] == "parameters")
        values: dict[str, Any] = found["variable"]["value"]
        return values


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        if rpc._special_sig_key in value:
            return "[secret]"
        return {key: _without_secrets(child) for key, child in value.items()}
    return [_without_secrets(child) for child in value] if isinstance(value, list) else value


@dataclass
class Recording:
    """What a run of the program registered, in order, and what it exported."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    registered_outputs: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """The outputs that components registered, by the component's type and name."""

    def of_type(self, token: str) -> list[Registered]:
        return [each for each in self.resources if each.type == token]

    def one(self, token: str) -> Registered:
        found = self.of_type(token)
        assert len(found) == 1, f"{len(found)} of {token}"
        return found[0]

    def named(self, name: str) -> Registered:
        (found,) = (each for each in self.resources if each.name == name)
        return found


class Cloud(Mocks):
    """Answers as Volcengine and Kubernetes would; with `unknown`, as in a first preview."""

    def __init__(self, *, unknown: bool = False, existing: Mapping[str, Any] | None = None) -> None:
        self._unknown = unknown
        self._existing = existing or {}
        self.seen: set[str] = set()
        """The type of everything that reached the cloud."""

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if args.custom:
            self.seen.add(args.typ)
        state = dict(args.inputs)
        if args.typ == Type.REGISTRY and not self._unknown:
            domain = f"{args.inputs['name']}-cn-test.cr.volces.com"
            state |= {"domains": [{"domain": domain, "type": "System"}], "username": "user@1"}
            state |= self._existing
        if "metadata" in state and not self._unknown:
            state["metadata"] = {
                **state["metadata"],
                "uid": f"{args.name}-uid",
                "resourceVersion": "1",
            }
        if args.typ == Type.RELEASE and not self._unknown:
            state["status"] = {
                "namespace": args.inputs["namespace"],
                "version": args.inputs["version"],
            }
        return (None if self._unknown and args.custom else f"{args.name}-id"), state

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        if args.token == "volcengine:vke/getClusters:getClusters":
            (cluster,) = args.args["ids"]
            network = {"vpcId": f"vpc-{cluster}", "subnetIds": [f"subnet-{cluster}", "subnet-2"]}
            found = {"id": cluster, "kubernetesVersion": "v1.34.1", "clusterConfig": network}
            return {"clusters": [found]}, []
        (cluster,) = args.args["clusterIds"]
        return {
            "kubeconfigs": [
                {
                    "id": f"kc-{age}",
                    "clusterId": cluster,
                    "type": kind,
                    "createTime": f"2026-01-0{age}T00:00:00Z",
                    "kubeconfig": base64.b64encode(f"{KUBECONFIG}# {kind} {age}".encode()).decode(),
                }
                for kind in args.args["types"]
                for age in (2, 1)
            ]
        }, []


class Monitor(MockMonitor):
    """A mock monitor that keeps the options of registrations and the outputs of components."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.recording = Recording()
        self._lock = threading.Lock()

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        return _urn(parent, type_, name)

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        answer = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type != "pulumi:pulumi:Stack":
            inputs = pulumi.runtime.rpc.deserialize_properties(request.object)
            with self._lock:
                self.recording.resources.append(
                    Registered(
                        type=request.type,
                        name=request.name,
                        custom=request.custom,
                        raw=inputs,
                        parent=request.parent.rpartition("::")[2],
                        provider=request.provider,
                        depends_on=tuple(each.rpartition("::")[2] for each in request.dependencies),
                        protect=request.protect,
                        ignore_changes=tuple(request.ignoreChanges),
                        delete_before_replace=request.deleteBeforeReplace,
                        before_create=tuple(request.hooks.before_create),
                        after_create=tuple(request.hooks.after_create),
                        after_update=tuple(request.hooks.after_update),
                        timeouts=(
                            request.customTimeouts.create,
                            request.customTimeouts.update,
                            request.customTimeouts.delete,
                        ),
                        urn=answer.urn,
                        parent_urn=request.parent,
                        aliases=tuple(request.aliases),
                    )
                )
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        kind, _, name = request.urn.rpartition("::")
        with self._lock:
            self.recording.registered_outputs[kind.rpartition(":")[2], name] = set(
                request.outputs.keys()
            )
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def record(config: StackConfig, *, preview: bool = False, cloud: Cloud | None = None) -> Recording:
    """Run the program with this config and return what it registered."""
    mocks = cloud or Cloud(unknown=preview)
    monitor = Monitor(mocks)
    outputs = run(CHECKOUT, "test", config, mocks, preview=preview, monitor=monitor)
    monitor.recording.outputs = outputs
    return monitor.recording


def known_as(recording: Recording) -> dict[str, set[str]]:
    """The other URNs under which Pulumi finds each resource in the state, by its URN of now.

    As the engine does it: a resource's own aliases, and with each URN of its parent its own below.
    Source: `generateAliases` in pulumi's pkg/resource/deploy/step_generator.go.
    """
    known: dict[str, set[str]] = {}
    for each in recording.resources:
        parents = {each.parent_urn, *known.get(each.parent_urn, ())}
        urns = {_urn(parent, each.type, each.name) for parent in parents}
        for alias in each.aliases:
            if alias.urn:
                urns.add(alias.urn)
                continue
            spec = alias.spec
            above = {""} if spec.noParent else {spec.parentUrn} if spec.parentUrn else parents
            urns |= {_urn(one, spec.type or each.type, spec.name or each.name) for one in above}
        known[each.urn] = urns - {each.urn}
    return known


def _urn(parent: str, kind: str, name: str) -> str:
    """A URN as the engine makes it, with the types of all parents but the stack."""
    above = parent.split("::")[2] if parent else _STACK
    qualified = kind if above == _STACK else f"{above}${kind}"
    return f"urn:pulumi:test::vke-dockerhub-proxy::{qualified}::{name}"


def stack(name: str) -> StackConfig:
    """The config of one of the project's own stack files."""
    return read(STACK_FILES[name], "rehearsal")
