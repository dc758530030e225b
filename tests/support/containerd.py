"""A node with a real containerd and no kubelet, in the machine's network.

Linux and root. It is the rehearsal's real node without a cluster: `/etc/containerd/config.toml`,
`systemctl restart containerd` and `/run/containerd/containerd.sock` are its own.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc

from rehearsal import wait
from rehearsal.cluster import node as real_node
from rehearsal.cluster.node import services, system
from rehearsal.cluster.node.inside import Spec
from rehearsal.processes import Processes, end_groups

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BINARIES = Path("/usr/local/bin")
"""Where containerd and ctr are on a node."""
_NAMESPACES = ("--mount", "--pid", "--fork")
"""Without a /proc of its own: what the tests start on it is no process of the node's."""
_READY_SECONDS = 30.0


class NodeError(Exception):
    """An image cannot be pulled; the message says why."""


class ContainerdNode:
    """A node whose containerd can be reset, asked and restarted."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        binaries: Path,
        hosts: Mapping[str, str],
        ca_certificate: Path,
    ) -> None:
        """Start it.

        `folder` is its own; `binaries` has containerd, ctr and the shim. It resolves the names in
        `hosts` and trusts the authority. Raises ProcessError.
        """
        names = {"localhost": "127.0.0.1", **hosts}
        (folder / "etc").mkdir()
        text = "".join(f"{address} {name}\n" for name, address in names.items())
        (folder / "etc" / "hosts").write_text(text)
        spec = Spec(
            etc=str(folder / "etc"),
            authority=str(ca_certificate),
            programs=real_node.containerd_programs(binaries),
            services=dict(real_node.CONTAINERD_SERVICE),
            logs=str(processes.logs),
        )
        started = system.start(processes, "node", folder, spec, _NAMESPACES)
        self._pid = started.pid
        self.root = started.root
        """Its root folder, as seen from outside, and on it as a Pod has it mounted."""
        self._log = processes.logs / "real-node-containerd.log"
        self._restarts_before = 0
        manager = self.root / services.SOCKET.relative_to("/")
        wait.until(manager.exists, f"{manager} is there", interval=0.05)

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.root / "run/containerd/containerd.sock"

    @property
    def environment(self) -> Path:
        """What its systemd says of the environment of containerd's unit."""
        return self.root / services.ENVIRONMENT.relative_to("/")

    @property
    def restarts(self) -> int:
        """How often containerd was restarted since the last reset."""
        return self._all_restarts() - self._restarts_before

    def _all_restarts(self) -> int:
        return self._log.read_text().count("systemctl restart containerd\n")

    def reset(self, config: str | None, files: Mapping[str, str] | None = None) -> None:
        """Bring it to a state: config.toml's text (None: no such file), more files in /etc.

        `files` are by path under /etc/containerd. containerd runs afterwards, freshly started.
        """
        self._systemctl("stop")
        etc = self.root / "etc/containerd"
        for each in etc.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        texts = {**(files or {}), **({} if config is None else {"config.toml": config})}
        for name, text in texts.items():
            path = etc / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._systemctl("restart")
        self.wait_ready()
        self._restarts_before = self._all_restarts()

    def _systemctl(self, verb: str) -> None:
        assert services.ask([verb, "containerd"], self.root) is None

    def run(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node."""
        process = self.start(command, environment=environment)
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            end_groups(process.pid)
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def start(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command on the node, in a session of its own."""
        return subprocess.Popen(
            ["nsenter", f"--target={self._pid}", "--mount", "--", *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": PATH, **(environment or {})},
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Wait until containerd's CRI answers. Raises NotInTimeError."""

        def answers() -> bool:
            self._call("ListImages", b"", timeout=2)
            return True

        wait.until(
            answers,
            f"containerd answers; see {self._log}",
            timeout=_READY_SECONDS,
            interval=0.05,
            ignoring=grpc.RpcError,
        )

    def pull(self, image: str, *, timeout: float = 200) -> float:
        """Pull an image by CRI, as a kubelet does; the seconds it took. Raises NodeError."""
        started = time.monotonic()
        try:
            self._call("PullImage", _image_request(image), timeout=timeout)
        except grpc.RpcError as error:
            raise NodeError(f"{image}: {error}") from error
        return time.monotonic() - started

    def remove(self, image: str) -> None:
        """Remove an image by CRI; one that is not there is no error.

        It waits for CRI, which answers a moment after its plugin is loaded. Raises NotInTimeError.
        """
        self.wait_ready()
        self._call("RemoveImage", _image_request(image), timeout=30)

    def _call(self, method: str, request: bytes, *, timeout: float) -> bytes:
        """Call a method of CRI's image service."""
        # A pool of its own: the shared one makes calls wait a second after a restart.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        target = f"unix://{self.socket}"
        with grpc.insecure_channel(target, options=options) as channel:
            answer: bytes = channel.unary_unary(f"/runtime.v1.ImageService/{method}")(
                request, timeout=timeout
            )
            return answer


def _image_request(image: str) -> bytes:
    """A PullImageRequest or RemoveImageRequest of CRI v1, whose field 1 is ImageSpec{1: image}."""
    name = image.encode()
    return _field_1(_field_1(name))


def _field_1(content: bytes) -> bytes:
    """Protocol buffers' field 1 with a length below 128, or below 16384 in two bytes."""
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return b"\x0a" + size + content
