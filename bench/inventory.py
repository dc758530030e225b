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
from dataclasses import dataclass, field
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
_PODS = "/api/v1/namespaces/default/pods"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One inventory, as a program of its own."""

    seconds: float
    megabytes: float
    """The most memory that one process of it held."""
    images: int
    workloads: int


@dataclass(kw_only=True)
class Admission:
    """Milliseconds of server-side dry runs, without the policy and with it."""

    without: list[float] = field(default_factory=list)
    with_policy: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median with the policy, of the median without."""
        return median(self.with_policy) / median(self.without)


def main(
    *,
    pods: Annotated[int, typer.Option(help="Pods to read.")] = PODS_GOAL[0],
    manifests: Annotated[int, typer.Option(help="Manifests to read.")] = MANIFESTS_GOAL[0],
    rounds: Annotated[int, typer.Option(help="Rounds with the policy and without.")] = 12,
    output: Annotated[Path, typer.Option(help="The folder to write to.")] = CHECKOUT / "docs",
) -> None:
    """Measure reading manifests and a cluster, and what the warning costs whoever is not warned."""
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with progress.step(f"{manifests} manifests"):
            write_manifests(folder / "manifests", manifests)
            files = inventory(str(folder / "manifests"))
        with plane(folder, progress) as found:
            admissions = admission(found, rounds)
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
            found = control_plane.start(processes, parts, folder / "plane", authority)
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


def admission(found: control_plane.ControlPlane, rounds: int) -> dict[str, Admission]:
    """Dry runs of workloads with nothing unserved, in turns without the policy and with it."""
    policy, binding = load("unserved-images/validating-admission-policy.yaml")
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
    times = {name: Admission() for name in cases}
    connection = Connection(found)
    base = "/apis/admissionregistration.k8s.io/v1"
    for _ in range(rounds):
        for in_force in (False, True):
            if in_force:
                _must(connection, "POST", f"{base}/validatingadmissionpolicies", policy)
                _must(connection, "POST", f"{base}/validatingadmissionpolicybindings", binding)
            _settle(found, warns=in_force)
            for name, (path, document) in cases.items():
                body = json.dumps(document).encode()
                samples = times[name].with_policy if in_force else times[name].without
                for _ in range(60):
                    samples.append(_milliseconds(connection, path, body))
        for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            connection.ask("DELETE", f"{base}/{kind}/unserved-images")
    connection.close()
    return times


def _milliseconds(connection: Connection, path: str, body: bytes) -> float:
    begun = time.perf_counter_ns()
    status, answer = connection.ask("POST", f"{path}?dryRun=All", body)
    if status != 201:
        raise RuntimeError(f"{status} {answer[:500].decode()}")
    return (time.perf_counter_ns() - begun) / 1e6


def _settle(found: control_plane.ControlPlane, *, warns: bool) -> None:
    """Wait until an image that is not served is warned of five times in a row, or never."""
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "a/b"}]}}
    trust = ssl.create_default_context(cafile=str(found.authority))
    headers = {"Authorization": f"Bearer {found.token}"}
    with httpx.Client(base_url=found.url, verify=trust, headers=headers) as client:

        def settled() -> bool:
            answers = [client.post(f"{_PODS}?dryRun=All", json=pod) for _ in range(5)]
            return all(("warning" in each.headers) == warns for each in answers)

        wait.until(settled, "the policy takes effect" if warns else "the policy is gone")


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
    admissions: Mapping[str, Admission],
) -> str:
    """The figures with their conditions, as Markdown."""
    seconds, megabytes = PODS_GOAL[1:]
    rows = "\n".join(
        f"| {name} | {median(each.without):.2f} ms | {median(each.with_policy):.2f} ms |"
        f" {each.ratio:.2f} |"
        for name, each in admissions.items()
    )
    return f"""# The inventory, measured

{machine()}. Written by
`python -m bench.inventory`. The API server and etcd are on the same cores.

| read | goal | seconds | MB | images |
|---|---|---|---|---|
| {manifests:,} manifests of about 120 lines | {MANIFESTS_GOAL[1]} s | {_figures(files)} |
| {pods:,} Pods of {size:.1f} kB | {seconds} s, {megabytes} MB | {_figures(cluster)} |

The time is that of the whole program, MB the most that one of its processes held. Each Pod is
one of its own, of no workload, which is what costs most.

What `policies/unserved-images` costs a workload with nothing unserved, in medians of server-side
dry runs, in turns without the policy and with it:

| created | without | with | ratio |
|---|---|---|---|
{rows}
"""


def _figures(reading: Reading) -> str:
    return f"{reading.seconds:.1f} | {reading.megabytes:.0f} | {reading.images}"


if __name__ == "__main__":
    typer.run(main)
