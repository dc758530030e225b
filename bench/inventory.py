"""`python -m bench.inventory`: what an inventory costs; writes docs/benchmarks-inventory.md.

On the real API server with kwok's nodes. Every Pod is one of its own, of no workload, which is
what costs an inventory most.
"""

from __future__ import annotations

import json
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx
import typer
import yaml

from bench.load import Connection
from bench.numbers import machine
from components.policy import load
from rehearsal import wait
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cluster import control_plane
from rehearsal.locations import CHECKOUT
from rehearsal.parts.build import Profile, obtain
from rehearsal.processes import Processes
from rehearsal.progress import Progress
from rehearsal.running import deployment

PODS_GOAL = (50_000, 30, 500)
"""Pods, seconds, MB."""
MANIFESTS_GOAL = (10_000, 30)
"""Files, seconds."""
_NODES = 100
_WARM = 100
"""Dry runs of a workload that are not counted."""
_PODS = "/api/v1/namespaces/default/pods"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One inventory, as a program of its own."""

    seconds: float
    megabytes: float
    """The most memory that one process of it held."""
    images: int
    workloads: int


NONE, ANY, OURS = "no policy", "any policy", "unserved-images"
_PROBE = "probe"
"""The name of the workload that shows whether a policy is in force."""


def main(
    *,
    pods: Annotated[int, typer.Option(help="Pods to read.")] = PODS_GOAL[0],
    manifests: Annotated[int, typer.Option(help="Manifests to read.")] = MANIFESTS_GOAL[0],
    requests: Annotated[int, typer.Option(help="Dry runs of each workload.")] = 2_000,
    output: Annotated[Path, typer.Option(help="The folder to write to.")] = CHECKOUT / "docs",
) -> None:
    """Measure reading manifests and a cluster, and what the warning costs whoever is not warned."""
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with progress.step(f"{manifests} manifests"):
            write_manifests(folder / "manifests", manifests)
            files = inventory(str(folder / "manifests"))
        admissions = admission(folder, progress, requests)
        with plane(folder / "plane", progress) as found:
            with progress.step(f"creating {pods} Pods"):
                size = create_pods(found, pods)
            with progress.step("reading them"):
                cluster = inventory("--kubeconfig", str(found.kubeconfig))
    text = report(manifests, files, pods, size, cluster, admissions)
    (output / "benchmarks-inventory.md").write_text(text)
    print(text)


def inventory(*arguments: str) -> Reading:
    """One inventory, timed from the start of its process to its end."""
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "inventory", *arguments, "--format", "json"],
        cwd=CHECKOUT,
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds = time.perf_counter() - before
    answer = json.loads(done.stdout)
    return Reading(
        seconds=seconds,
        megabytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000,
        images=answer["images"]["total"],
        workloads=len({(each["source"], each["name"]) for each in answer["uses"]}),
    )


def write_manifests(folder: Path, count: int) -> None:
    """Files of a Deployment, a Service and a ConfigMap each, about 90 lines."""
    folder.mkdir()
    settings = {f"key-{at}": "a value of some length, as settings are" for at in range(20)}
    for at in range(count):
        name = f"app-{at}"
        documents = [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                **deployment(name, pod_of(at)),
                "metadata": {"name": name, "namespace": f"team-{at % 50}"},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
            },
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": settings},
        ]
        text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text)


def pod_of(at: int) -> dict[str, Any]:
    """A Pod's spec of usual size: two containers of one of 300 images each, probes, a volume."""
    hosts = ("", "docker.io/", "ghcr.io/", "quay.io/")
    containers = [
        {
            "name": role,
            "image": f"{hosts[at % 4]}namespace-{at % 75}/{role}:1.{at % 150}",
            "env": [{"name": f"VARIABLE_{n}", "value": f"value {n} of {at}"} for n in range(8)],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        for role in ("app", "sidecar")
    ]
    return {"containers": containers, "volumes": [{"name": "data", "emptyDir": {}}]}


@contextmanager
def plane(folder: Path, progress: Progress) -> Iterator[control_plane.ControlPlane]:
    """A control plane with kwok's nodes and no policy."""
    parts = obtain(control_plane.PARTS, progress, Profile.RELEASE)
    with ExitStack() as stack:
        processes = stack.enter_context(Processes(folder / "logs"))
        authority = Authority.create(folder / "authority")
        with progress.step("starting Kubernetes"):
            found = control_plane.start(
                processes, parts, folder / "plane", authority, environment={}
            )
        connection = Connection(found)
        stack.callback(connection.close)
        for at in range(_NODES):
            node = control_plane.node(f"node-{at}")
            _must(connection, "POST", "/api/v1/nodes", node)
        pod = {"metadata": {"name": "probe"}, "spec": pod_of(0)}
        dry = f"{_PODS}?dryRun=All"
        wait.until(
            lambda: connection.ask("POST", dry, json.dumps(pod).encode())[0] == 201,
            "Pods can be created",
        )
        yield found


def create_pods(found: control_plane.ControlPlane, count: int) -> float:
    """Create Pods on kwok's nodes and wait until they run; the mean size of one, in kB."""

    def create(numbers: Sequence[int]) -> None:
        connection = Connection(found)
        for at in numbers:
            pod = {
                "metadata": {"name": f"pod-{at}", "labels": {"app": f"app-{at}"}},
                "spec": {**pod_of(at), "nodeName": f"node-{at % _NODES}"},
            }
            _must(connection, "POST", _PODS, pod)
        connection.close()

    workers = 4
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(create, [range(at, count, workers) for at in range(workers)]))
    connection = Connection(found)

    def all_run() -> bool:
        _, body = connection.ask("GET", f"{_PODS}?fieldSelector=status.phase!=Running&limit=1")
        return not json.loads(body)["items"]

    wait.until(all_run, "all Pods run", timeout=900, interval=5)
    _, body = connection.ask("GET", f"{_PODS}?limit=500")
    connection.close()
    return len(body) / 500 / 1000


def admission(folder: Path, progress: Progress, count: int) -> dict[str, dict[str, list[float]]]:
    """Dry runs of workloads with nothing unserved, by workload and policy.

    Each policy is in a control plane of its own, and each gets every request in turn, so that
    what else the machine does is in all figures alike.
    """
    spec = {"containers": [{"name": "c", "image": "nginx:1"}]}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x"}
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    many = {"containers": [{"name": f"c{n}", "image": f"nginx:{n}"} for n in range(20)]}
    cases: dict[str, tuple[str, Any]] = {
        "a Pod": (_PODS, {"metadata": {"name": "x"}, "spec": spec}),
        "a Pod of 20 containers": (_PODS, {"metadata": {"name": "x"}, "spec": many}),
        "a Pod of a ReplicaSet": (
            _PODS, {"metadata": {"name": "x", "ownerReferences": [owner]}, "spec": spec}
        ),
        "a Deployment": (deployments, deployment("x", spec)),
    }  # fmt: skip
    ours = load("unserved-images/validating-admission-policy.yaml")
    policies = {NONE: [], ANY: any_policy(*ours), OURS: ours}
    with ExitStack() as stack:
        connections = {}
        for name, documents in policies.items():
            found = stack.enter_context(plane(folder / name, progress))
            connections[name] = Connection(found)
            stack.callback(connections[name].close)
            if documents:
                _put_in_force(found, connections[name], *documents)
        return {
            case: _in_turns(connections, path, json.dumps(document).encode(), count)
            for case, (path, document) in cases.items()
        }


def _in_turns(
    connections: Mapping[str, Connection], path: str, body: bytes, count: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in connections}
    for at in range(count):
        for name in sorted(connections, reverse=at % 2 == 0):
            times[name].append(_milliseconds(connections[name], path, body))
    return {name: each[_WARM:] for name, each in times.items()}


def any_policy(policy: dict[str, Any], binding: dict[str, Any]) -> list[dict[str, Any]]:
    """The least that a policy for the same workloads costs: its condition compares one string."""
    spec = {
        **{name: policy["spec"][name] for name in ("failurePolicy", "matchConstraints")},
        "matchConditions": [{"name": "probe", "expression": f'object.metadata.name == "{_PROBE}"'}],
        "validations": [{"expression": "false"}],
    }
    return [{**policy, "spec": spec}, binding]


def _milliseconds(connection: Connection, path: str, body: bytes) -> float:
    begun = time.perf_counter_ns()
    status, answer = connection.ask("POST", f"{path}?dryRun=All", body)
    if status != 201:
        raise RuntimeError(f"{status} {answer[:500].decode()}")
    return (time.perf_counter_ns() - begun) / 1e6


def _put_in_force(
    found: control_plane.ControlPlane, connection: Connection, policy: Any, binding: Any
) -> None:
    """Create a policy, wait until it warns, and until its types have been checked."""
    base = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    _must(connection, "POST", base, policy)
    _must(connection, "POST", base.removesuffix("ies") + "ybindings", binding)
    pod = {"metadata": {"name": _PROBE}, "spec": {"containers": [{"name": "c", "image": "a/b"}]}}
    trust = ssl.create_default_context(cafile=str(found.authority))
    headers = {"Authorization": f"Bearer {found.token}"}
    with httpx.Client(base_url=found.url, verify=trust, headers=headers) as client:
        status = f"{base}/{policy['metadata']['name']}"
        wait.until(lambda: "status" in client.get(status).json(), "its types are checked")
        warned = f"{_PODS}?dryRun=All"
        wait.until(lambda: "warning" in client.post(warned, json=pod).headers, "it warns")


def _must(connection: Connection, method: str, path: str, document: Any) -> None:
    status, answer = connection.ask(method, path, json.dumps(document).encode())
    if status >= 300:
        raise RuntimeError(f"{method} {path}: {status} {answer[:500].decode()}")


def report(
    manifests: int,
    files: Reading,
    pods: int,
    size: float,
    cluster: Reading,
    admissions: Mapping[str, Mapping[str, Sequence[float]]],
) -> str:
    """The figures with their conditions, as Markdown."""
    seconds, megabytes = PODS_GOAL[1:]
    rows = "\n".join(f"| {case} | {_costs(policies)} |" for case, policies in admissions.items())
    return f"""# The inventory, measured

{machine()}. Written by
`python -m bench.inventory`. The API server and etcd are on the same cores.

| read | goal | seconds | MB | images |
|---|---|---|---|---|
| {manifests:,} manifests of about 120 lines | {MANIFESTS_GOAL[1]} s | {_figures(files)} |
| {pods:,} Pods of {size:.1f} kB | {seconds} s, {megabytes} MB | {_figures(cluster)} |

The time is that of the whole program, MB the most that one of its processes held. Each Pod is
one of its own, of no workload, which is what costs most.

What `policies/unserved-images` costs a workload with nothing unserved: medians of server-side dry
runs, each in turn in a control plane with no policy, with any and with this one. *Any policy* is
one for the same workloads whose only condition compares a string: no policy costs less.

| created | no policy | any policy | unserved-images |
|---|---|---|---|
{rows}
"""


def _costs(times: Mapping[str, Sequence[float]]) -> str:
    """The cells of a workload: the median without a policy, those with one, and their ratios."""
    none = median(times[NONE])
    with_one = [median(times[name]) for name in (ANY, OURS)]
    return " | ".join(
        [f"{none:.2f} ms", *(f"{each:.2f} ms ({each / none:.2f}x)" for each in with_one)]
    )


def _figures(reading: Reading) -> str:
    return f"{reading.seconds:.1f} | {reading.megabytes:.0f} | {reading.images}"


if __name__ == "__main__":
    typer.run(main)
