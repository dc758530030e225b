"""The states of a real node's mirror, each measured in rounds on one rehearsal."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from kubernetes import client

from bench.pods import Pods
from components.labels import NODES_NAMESPACE
from components.node_mirror import DAEMON_SET, SCRIPTS
from rehearsal import wait
from rehearsal.cloud.registries.access_log import AccessRecord, Cache
from rehearsal.cloud.registries.client import PullClient
from rehearsal.cloud.registries.images import SampleImage, publish
from rehearsal.cluster import node as real_node
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from rehearsal.running import records_of
from rehearsal.stage import Run, api_client

NO_MIRROR = "no mirror"
COLD = "mirror, proxy cold"
CACHED = "mirror, proxy has it"
REFUSED = "mirror refused"
BLACK_HOLE = "mirror black-holed, not withdrawn"
WITHDRAWN = "mirror black-holed, withdrawn"

_SLOW_ROUNDS = 1
_HOSTS_TOML = "/etc/containerd/certs.d/docker.io/hosts.toml"
_CHANGE_SECONDS = 180.0


class MirrorError(Exception):
    """A state is not what it should be; the message says what was seen."""


@dataclass(kw_only=True)
class Times:
    """Seconds to a Running Pod in one state, a sample a round."""

    apply: list[float] = field(default_factory=list)
    """From the Deployment's creation, on a node that is Ready."""
    kubelet: list[float] = field(default_factory=list)
    """From the start of the node's kubelet, which the Deployment waits for."""


@dataclass(kw_only=True)
class Measured:
    """What was measured on a node with one version of containerd."""

    states: dict[str, Times] = field(default_factory=dict)
    withdrawn_after: float = 0
    """Seconds from the black hole to the mirror withdrawn by the DaemonSet."""
    restored_after: float = 0
    """Seconds from the proxy answering again to the mirror put back."""


class MirrorBench:
    """A deployed rehearsal with a real node, whose mirror is put into one state after another."""

    def __init__(self, run: Run, domain: str, progress: Progress) -> None:
        if run.node is None:
            raise MirrorError("the rehearsal has no real node")
        self._run = run
        self._node = run.node
        self._domain = domain
        self._progress = progress
        self._parts = obtain(("crane", "nginx"), progress)
        self._folder = run.folder / "bench"
        api = api_client(run)
        self._pods = Pods(api, self._node)
        self._apps = client.AppsV1Api(api)
        self._core = client.CoreV1Api(api)
        self._made = 0

    def measure(self, rounds: int) -> Measured:
        """Measure every state: without the DaemonSet first, then with it.

        Raises:
            MirrorError: when a Pod's image did not come from where it should have.
            NotInTimeError: when a Pod is not Running, or the mirror not changed, in time.
        """
        measured = Measured()
        self._select_nodes(present=False)
        self._script("remove")
        self._pods.after_apply(self._image())
        for number in range(rounds):
            with self._progress.step(f"round {number + 1} of {rounds}"):
                self._sample(measured, NO_MIRROR)
                self._script("apply")
                self._sample(measured, COLD)
                self._sample(measured, CACHED)
                self._fault("refuse")
                self._sample(measured, REFUSED)
                self._fault(None)
                self._script("remove")
        self._script("apply")
        self._fault("black-hole")
        with self._progress.step("a mirror that is black-holed"):
            for _ in range(_SLOW_ROUNDS):
                self._sample(measured, BLACK_HOLE)
        self._fault(None)
        self._with_daemon_set(measured, rounds)
        return measured

    def _with_daemon_set(self, measured: Measured, rounds: int) -> None:
        self._select_nodes(present=True)
        self._fault("black-hole")
        with self._progress.step("waiting until the mirror is withdrawn"):
            measured.withdrawn_after = self._until_mirror(there=False)
        for number in range(rounds):
            with self._progress.step(f"withdrawn, round {number + 1} of {rounds}"):
                self._sample(measured, WITHDRAWN)
        self._fault(None)
        with self._progress.step("waiting until the mirror is put back"):
            measured.restored_after = self._until_mirror(there=True)

    def _sample(self, measured: Measured, state: str) -> None:
        times = measured.states.setdefault(state, Times())
        for clock, samples in (
            (self._pods.after_apply, times.apply),
            (self._pods.after_kubelet, times.kubelet),
        ):
            image = self._image()
            if state == CACHED:
                self._pull(image)
            before = len(records_of(self._run, self._domain))
            samples.append(clock(image))
            self._check(state, image, records_of(self._run, self._domain)[before:])

    def _check(self, state: str, image: str, records: list[AccessRecord]) -> None:
        """Whether the image came through the proxy in the states in which it should."""
        tag = image.partition(":")[2]
        served = [each for each in records if each.status == 200 and each.cache is not Cache.NONE]
        mine = any(f"/manifests/{tag}" in each.path for each in records if each.status == 200)
        wanted = {COLD: Cache.MISS, CACHED: Cache.HIT}.get(state)
        if mine != (wanted is not None):
            raise MirrorError(f"{state}: the proxy served {served}")
        blobs = {each.cache for each in served if "/blobs/" in each.path}
        if wanted is not None and blobs != {wanted}:
            raise MirrorError(f"{state}: blobs came as {blobs} from the proxy's cache")

    def _image(self) -> str:
        """A new image in Docker Hub, all of whose content is new."""
        self._made += 1
        tag = f"bench-{self._made}"
        self._folder.mkdir(exist_ok=True)
        program = self._folder / "program"
        program.write_bytes(self._parts["nginx"].read_bytes() + os.urandom(64))
        program.chmod(0o755)
        names = httpx.get(f"http://{self._run.volcengine}/-/names", trust_env=False).json()
        hub = names["registry-1.docker.io"]
        image = SampleImage(
            repository="library/nginx",
            tags=(tag,),
            version=tag,
            entrypoint=("/usr/sbin/nginx",),
        )
        layouts = self._folder / "layouts"
        publish(
            [image],
            program=program,
            registry=f"{hub['host']}:{hub['port']}",
            crane=self._parts["crane"],
            ca_certificate=self._run.authority,
            folder=layouts,
        )
        shutil.rmtree(layouts)
        return f"nginx:{tag}"

    def _pull(self, image: str) -> None:
        """Have the proxy fetch an image."""
        PullClient(
            crane=self._parts["crane"],
            names_url=self._run.names_proxy,
            ca_certificate=self._run.authority,
        ).pull(f"{self._domain}/library/{image}")

    def _fault(self, kind: str | None) -> None:
        """Put a fault of the proxy in force; None heals it."""
        httpx.request(
            "PUT" if kind else "DELETE",
            f"http://{self._run.volcengine}/-/registries/{self._domain}/fault",
            json={"kind": kind} if kind else None,
            trust_env=False,
        ).raise_for_status()

    def _script(self, mode: str) -> None:
        """Run node.sh as a node pool does: once, with nothing to withdraw the mirror."""
        names = f"docker.io {self._domain}\n"
        done = real_node.run(self._node, "sh", SCRIPTS / "node.sh", mode, stdin=names)
        if done.returncode != 0 or self._has_mirror() != (mode == "apply"):
            raise MirrorError(f"node.sh {mode}: {done.stdout}{done.stderr}")

    def _has_mirror(self) -> bool:
        return self._domain in real_node.run(self._node, "cat", _HOSTS_TOML).stdout

    def _until_mirror(self, *, there: bool) -> float:
        started = time.monotonic()
        what = f"the mirror is {'in place' if there else 'withdrawn'}"
        wait.until(lambda: self._has_mirror() == there, what, timeout=_CHANGE_SECONDS)
        return time.monotonic() - started

    def _select_nodes(self, *, present: bool) -> None:
        """Let the stack's DaemonSet have its Pods, or none on any node; waits for it."""
        selector = {"bench": None if present else "none"}
        patch: Any = {"spec": {"template": {"spec": {"nodeSelector": selector}}}}
        self._apps.patch_namespaced_daemon_set(DAEMON_SET, NODES_NAMESPACE, patch)
        what = f"the node has {'a ready' if present else 'no'} Pod of the DaemonSet"
        wait.until(
            lambda: self._ready() is (True if present else None), what, timeout=_CHANGE_SECONDS
        )

    def _ready(self) -> bool | None:
        """Whether the DaemonSet's Pod on the node is ready; None while there is none."""
        found: Any = self._core.list_namespaced_pod(
            NODES_NAMESPACE, field_selector=f"spec.nodeName={real_node.NAME}"
        )
        for pod in found.items:
            return any(
                each.type == "Ready" and each.status == "True"
                for each in pod.status.conditions or ()
            )
        return None
