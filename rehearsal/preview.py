"""What a stack declares, as a tree: the program run in this process, and nothing asked or touched.

It needs Python packages only. It is no `pulumi preview`: nothing is compared with what is deployed,
and no cluster or cloud is asked.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, rpc
from pulumi.runtime.mocks import MockMonitor
from rich.console import Console
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from rehearsal.deploy import embedded, stack_file
from rehearsal.errors import RehearsalError

IS_NOT = (
    "This is the program run on its own: no Pulumi CLI, no comparison with what is deployed,"
    " no cluster or cloud asked."
)
_UNKNOWN = "(known after the first `pulumi up`)"
_SECRET = "[secret]"  # noqa: S105 - what is shown in place of one
_WIDTH = 120
"""Characters a line where no terminal says how many it has."""
_LONGEST = 200
"""Characters of a setting that are shown."""


class PreviewError(RehearsalError):
    """The stack cannot be shown; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One resource as the program registered it."""

    urn: str
    parent: str
    kind: str
    name: str
    inputs: Mapping[str, Any]
    """Its settings; secret and unknown ones are said to be so."""
    after: frozenset[str]
    """The URNs of the resources it waits for, its parent among them."""
    protected: bool

    @property
    def is_created(self) -> bool:
        """Whether it is a thing of its own, not a component that holds others."""
        return ":index:" not in self.kind


@dataclass
class Preview:
    """Everything a stack declares, in the order of registration."""

    resources: dict[str, Declared] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What was assumed."""

    def steps(self) -> dict[str, int]:
        """For each resource but components: 1 for the first ones, else one after its last."""
        found: dict[str, int] = {}

        def step(urn: str) -> int:
            if urn not in found:
                each = self.resources[urn]
                before = [step(other) for other in each.after if other in self.resources]
                found[urn] = max(before, default=0) + each.is_created
            return found[urn]

        for urn in self.resources:
            step(urn)
        return found


def preview(folder: Path, stack: str) -> Preview:
    """Run the program of this folder for one of its stack files.

    Raises:
        PreviewError: when there is no such stack file, or its settings are not accepted.
    """
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        stacks = sorted(each.name.split(".")[1] for each in folder.glob("Pulumi.*.yaml"))
        raise PreviewError(f"no stack file {path.name}; there are: {', '.join(stacks)}")
    mocks = Nothing()
    seen = _Seen(mocks)
    config, assumed = _with_password(stack_file.read(path, None))
    try:
        outputs = embedded.run(folder, stack, config, mocks, preview=True, monitor=seen)
    except pulumi.RunError as error:
        raise PreviewError(f"{path.name}: {error}") from None
    seen.preview.outputs = _shown(outputs)
    seen.preview.notes += assumed
    return seen.preview


def _with_password(config: stack_file.StackConfig) -> tuple[stack_file.StackConfig, list[str]]:
    """The config with the one secret a fresh checkout cannot have, and a word of it."""
    name = next((each for each in config.values if each.endswith(":dockerhub")), "")
    account = json.loads(config.values[name]) if name else {}
    if "username" not in account or "password" in account:
        return config, []
    values = {**config.values, name: json.dumps({**account, "password": stack_file.HIDDEN})}
    kept = stack_file.StackConfig(values=values, secret_keys=config.secret_keys | {name})
    return kept, ["dockerhub.password is not set yet; shown as if it were"]


class Nothing(Mocks):
    """Answers for a cloud that nobody asks: look-ups with words, resources with nothing."""

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Its inputs; whatever only the cloud knows stays unknown."""
        return None if args.custom else args.name, dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """A cluster, or its kubeconfig."""
        if args.token.endswith(":getClusters"):
            (cluster,) = args.args["ids"]
            network = {"vpcId": f"(VPC of {cluster})", "subnetIds": [f"(subnet of {cluster})"]}
            version = f"(version of {cluster})"
            found = {"id": cluster, "kubernetesVersion": version, "clusterConfig": network}
            return {"clusters": [found]}, []
        (cluster,) = args.args["clusterIds"]
        (kind,) = args.args["types"]
        kubeconfig = {
            "id": "",
            "clusterId": cluster,
            "type": kind,
            "createTime": "",
            "kubeconfig": base64.b64encode(b"(looked up)").decode(),
        }
        return {"kubeconfigs": [kubeconfig]}, []


class _Seen(MockMonitor):
    """Keeps what is registered."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.preview = Preview()
        self._lock = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        answer = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        with self._lock:
            if request.type != "pulumi:pulumi:Stack":
                self.preview.resources[answer.urn] = Declared(
                    urn=answer.urn,
                    parent=request.parent,
                    kind=request.type,
                    name=request.name,
                    inputs=_shown(rpc.deserialize_properties(request.object, keep_unknowns=True)),
                    after=frozenset({request.parent, *request.dependencies}) - {answer.urn},
                    protected=request.protect,
                )
        return answer


def _shown(value: Any) -> Any:
    """`value` with words in place of what is secret and what is not known yet."""
    if rpc.is_rpc_secret(value) or isinstance(value, embedded.Secret):
        return _SECRET
    if isinstance(value, Mapping):
        return {key: _shown(value[key]) for key in sorted(value) if not key.startswith("__")}
    if isinstance(value, list):
        return [_shown(child) for child in value]
    if value == rpc.UNKNOWN or isinstance(value, pulumi.output.Unknown):
        return _UNKNOWN
    return int(value) if isinstance(value, float) and value.is_integer() else value


def show(stack: str, found: Preview, console: Console) -> None:
    """Print the tree, the outputs, and what all this is not."""
    steps = found.steps()
    tree = Tree(f"[bold]{escape(stack)}[/]: what the stack declares; \\[n] is created in step n")
    branches: dict[str, Tree] = {}
    for urn, each in found.resources.items():
        step = f"[cyan]\\[{steps[urn]}][/] " if each.is_created else ""
        kept = " [yellow](protected)[/]" if each.protected else ""
        label = f"{step}[bold]{escape(_type(each.kind))}[/] {escape(each.name)}{kept}"
        branch = branches.get(each.parent, tree).add(label)
        branches[urn] = branch
        for line in _lines(each):
            branch.add(Text(line, style="dim", no_wrap=True, overflow="ellipsis"))
    outputs = tree.add("[bold]outputs[/]")
    for name, value in sorted(found.outputs.items()):
        outputs.add(Text(f"{name}: {_flow(value)}", no_wrap=True, overflow="ellipsis"))
    console.print(tree, soft_wrap=False, width=None if console.is_terminal else _WIDTH)
    for note in (*found.notes, IS_NOT):
        console.print(escape(note), soft_wrap=True)


def _type(token: str) -> str:
    """A type token in short: `cr.Registry`, `ClusterPolicy`, `ProxyRegistry`."""
    _, module, name = token.split(":")
    package = module.partition("/")[0]
    return name if package in {"index", "providers"} else f"{package}.{name}"


def _lines(each: Declared) -> Iterator[str]:
    """Its settings, a line each; of a Kubernetes object its name first, of a component one line."""
    inputs = {name: value for name, value in each.inputs.items() if value not in ("", [], {}, None)}
    if not each.is_created:
        yield from [_flow(inputs)] if inputs else []
        return
    metadata = inputs.pop("metadata", None)
    for name in ("apiVersion", "kind"):
        inputs.pop(name, None)
    if isinstance(metadata, Mapping):
        named = (metadata.get("namespace"), metadata.get("name"))
        yield f"name: {'/'.join(str(part) for part in named if part)}"
    for name, value in inputs.items():
        yield f"{name}: {_flow(value)}"


def _flow(value: Any) -> str:
    """A value on one line, as YAML writes it, cut where it is long."""
    if isinstance(value, str):
        text = " ".join(value.split())
    else:
        text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9).strip()
        text = text.removesuffix("...").strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
