"""What the tests of node.sh and pod.sh share, beside fixtures."""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rehearsal import wait
from rehearsal.cloud.registries.access_log import AccessRecord, read_log
from rehearsal.cloud.registries.images import DOCKER_HUB
from rehearsal.cloud.registries.upstream import Upstream
from rehearsal.locations import CHECKOUT
from rehearsal.running import by_containerd
from tests.support.containerd import BINARIES, PATH, ContainerdNode
from tests.support.volcengine_stage import RunningEmulator

NODE_SCRIPT = CHECKOUT / "nodes" / "node.sh"
POD_SCRIPT = CHECKOUT / "nodes" / "pod.sh"
IMAGE = "docker.io/library/nginx:latest"
STATE = "etc/containerd/dockerhub-mirror"
HOSTS = ("docker.io", "registry-1.docker.io", "registry.hub.docker.com")
"""Docker Hub's names for containerd."""
NAMESPACES: Mapping[str, Mapping[str, str]] = {
    DOCKER_HUB: {"library": "Private", "bitnami": "Public"},
    "ghcr.io": {"stefanprodan": "Private"},
}
"""The upstreams that have a proxy, and what it serves of them."""


class Scripted(ThreadingHTTPServer):
    """A server with a proxy's certificate that answers each path as the test says."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        """Status and headers by the beginning of the path; the longest that fits, else 200."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of each request."""
        super().__init__((address, 443), _ScriptedHandler)


class _ScriptedHandler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        fitting = [each for each in self.server.answers if self.path.startswith(each)]
        status, headers = self.server.answers[max(fitting, key=len)] if fitting else (200, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class World:
    """A proxy registry and its upstream, both on port 443 of loopback addresses."""

    host: str
    """The upstream, as images name it."""
    api: RunningEmulator
    registry: str
    """The proxy registry's name."""
    domain: str
    username: str
    proxy_address: str
    upstream: Upstream
    ca_certificate: Path
    access_log: Path
    passwords: list[str]
    """The registry user's password, the newest last."""

    def records(self) -> list[AccessRecord]:
        """What the proxy logged so far of content that containerd asked for."""
        by_nodes = by_containerd(read_log(self.access_log))
        return [each for each in by_nodes if "/manifests/" in each.path]

    def asked_upstream(self) -> int:
        """How many requests of containerd the upstream has answered itself."""
        return self.upstream.log.read_text().count('"containerd/')

    def fault(self, kind: str | None, **settings: Any) -> None:
        """Put a fault of the proxy in force; None heals it."""
        self.api.fault(self.domain, **({"kind": kind, **settings} if kind else {}))

    def set_password(self, password: str) -> None:
        self.api.set_password(self.registry, password)
        self.passwords.append(password)


Worlds = Mapping[str, World]
"""Proxy registries by their upstream's host."""


@dataclass
class Node:
    """A node in a test, with the scripts to run on it."""

    containerd: ContainerdNode
    world: World
    login: Path
    version: str
    run_folder: Path
    """Where pod.sh keeps what it knows."""
    shell: str = "/bin/sh"
    """The Pod's shell."""

    def mirrors(self, *, login: str | None = None, kind: str = "", ca: str = "") -> str:
        """The list for node.sh: Docker Hub's names, with the node's login or another."""
        encoded = self.encoded_login() if login is None else login
        lines = [f"{host} {self.world.domain} {encoded} {kind}".rstrip() for host in HOSTS]
        return "\n".join([*lines, ca])

    def apply(self, mirrors: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `node.sh apply` on the node."""
        return self._run("apply", self.mirrors() if mirrors is None else mirrors, more)

    def remove(self, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `node.sh remove` on the node."""
        return self._run("remove", "", more)

    def _run(
        self, mode: str, text: str, more: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        environment = {"MIRROR_RESTART_SECONDS": "10", **more}
        return self.containerd.run(["sh", NODE_SCRIPT, mode], environment=environment, stdin=text)

    def pod_settings(self, **more: str) -> dict[str, str]:
        """The environment of pod.sh in a Pod on the node."""
        return {
            "POD_NODE_ROOT": str(self.containerd.root),
            "POD_RUN": str(self.run_folder),
            "POD_PROXIES": "\n".join(f"{each} {self.world.domain} {self.login}" for each in HOSTS),
            "POD_IMAGE": f"{self.world.domain}/library/busybox:latest",
            "POD_INTERVAL": "1",
            "POD_PROBE_SECONDS": "1",
            "POD_RESTART_WINDOW": "0",
            "POD_PATIENCE": "2",
            "POD_NODE_NAME": "node",
            "MIRROR_RESTART_SECONDS": "10",
            **more,
        }

    @property
    def pod_shell(self) -> list[str]:
        """The Pod's shell: a busybox that has its own programs and no others."""
        if self.shell == "/bin/sh":
            return ["sh"]
        return ["env", "PATH=/nonexistent", self.shell, "sh"]

    def step(self, **more: str) -> str:
        """One step of pod.sh, as in a Pod on the node; what it found."""
        functions, _, _ = POD_SCRIPT.read_text().rpartition("case ${1:-} in")
        program = f'{functions}\nmkdir -p "$run"; step; echo "$said_before"'
        done = self.containerd.run(
            [*self.pod_shell, "-c", program, POD_SCRIPT],
            environment=self.pod_settings(**more),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def hosts(self) -> Path:
        return self.containerd.root / "etc/containerd/certs.d/docker.io/hosts.toml"

    @property
    def config(self) -> Path:
        return self.containerd.root / "etc/containerd/config.toml"

    @property
    def asks_for_tokens_with_the_header(self) -> bool:
        """Whether this containerd gets tokens with the login in hosts.toml."""
        return self.version != "1.6"

    @contextmanager
    def proxy_at(self, address: str, domain: str = "") -> Iterator[None]:
        """A proxy's name, unless said otherwise Docker Hub's, leads to another address."""
        domain = domain or self.world.domain
        hosts = self.containerd.root / "etc/hosts"
        before = hosts.read_text()
        lines = [line for line in before.splitlines() if not line.endswith(domain)]
        hosts.write_text("\n".join([*lines, f"{address} {domain}", ""]))
        yield
        hosts.write_text(before)

    def tree(self) -> dict[str, tuple[int, bytes | str | None]]:
        """Everything under /etc/containerd: mode and content, or where a symbolic link leads."""
        root = self.containerd.root / "etc/containerd"
        return {
            str(each.relative_to(root)): (
                each.lstat().st_mode,
                str(each.readlink())
                if each.is_symlink()
                else (each.read_bytes() if each.is_file() else None),
            )
            for each in sorted(root.rglob("*"))
        }

    def encoded_login(self) -> str:
        """The login as an Authorization header has it."""
        login = ":".join((self.login / name).read_text() for name in ("username", "password"))
        return base64.b64encode(login.encode()).decode()

    def traced(
        self, folder: Path, words: Path, kill_at: int = 0, also: Iterable[str] = ()
    ) -> dict[str, str]:
        """An environment in which commands that change files, curl and others note their words.

        The one numbered `kill_at` kills the script and all of its commands instead.
        """
        folder.mkdir()
        counter = folder / "count"
        counter.write_text("0")
        for name in ("mv", "cp", "mkdir", "rm", "rmdir", "chmod", "curl", "systemctl", *also):
            own = self.containerd.root / BINARIES.relative_to("/") / name
            real = BINARIES / name if own.exists() else shutil.which(name) or f"/usr/bin/{name}"
            shim = folder / name
            shim.write_text(
                _SHIM.format(counter=counter, words=words, real=real, name=name, kill_at=kill_at)
            )
            shim.chmod(0o755)
        return {"PATH": f"{folder}:{PATH}"}

    def count_steps(self, folder: Path, mode: str, **more: str) -> int:
        """How many such commands a run of this mode makes; the node is as before afterwards."""
        if mode == "remove":
            self.apply(**more)
        traced = {**more, **self.traced(folder / "counted", folder / "words")}
        done = self.remove(**traced) if mode == "remove" else self.apply(**traced)
        assert done.returncode == 0, done.stdout + done.stderr
        if mode != "remove":
            self.remove(**more)
        return int((folder / "counted" / "count").read_text())

    def killed_at(self, folder: Path, at: int, mode: str, **more: str) -> None:
        """Run node.sh and kill it with SIGKILL at one such command."""
        traced = {**more, **self.traced(folder, folder / "words", at)}
        done = self.remove(**traced) if mode == "remove" else self.apply(**traced)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr

    @contextmanager
    def small_disk(self) -> Iterator[Callable[[], None]]:
        """The node's /etc/containerd on a small file system; yields what fills it up."""

        def fill() -> None:
            with suppress(OSError), (self.config.parent / "filler").open("wb", 0) as filler:
                while True:
                    filler.write(b"0" * 4096)

        with TemporaryDirectory() as scratch:
            kept = Path(scratch) / "kept"
            shutil.copytree(self.config.parent, kept)
            mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", "/etc/containerd"]
            assert self.containerd.run(mount).returncode == 0
            try:
                shutil.copytree(kept, self.config.parent, dirs_exist_ok=True)
                yield fill
            finally:
                self.containerd.run(["umount", "/etc/containerd"])

    def pulled_through_the_proxy(self, image: str = IMAGE) -> bool:
        """Pull an image; whether the proxy served its manifest."""
        before = len(self.world.records())
        self.containerd.remove(image)
        self.containerd.pull(image)
        return any(each.status == 200 for each in self.world.records()[before:])


@dataclass
class Pod:
    """A Pod's container with pod.sh running in it."""

    node: Node
    process: subprocess.Popen[str]
    environment: dict[str, str]

    def ready(self) -> subprocess.CompletedProcess[str]:
        """Run its readiness probe."""
        return self.node.containerd.run(
            [*self.node.pod_shell, POD_SCRIPT, "ready"], environment=self.environment
        )

    def wait(self, word: str, *, seconds: float = 40) -> str:
        """Wait until the probe says a word, or nothing; what it said."""
        said = ""

        def has_said() -> bool:
            nonlocal said
            said = self.ready().stdout
            assert word in said if word else not said, f"it says {said!r}"
            return True

        wait.until(has_said, f"it says {word!r}", timeout=seconds, ignoring=AssertionError)
        return said

    def end(self) -> str:
        """End it as the kubelet does; its log."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=60)
        return log


FRESH: Mapping[str, str] = {"1.6": "version = 2\n", "2.4": "version = 3\n"}
"""A config.toml that says nothing."""
PATCHES: Mapping[str, str] = {
    "1.6": 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{path}"\n',
    "2.4": "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n"
    "config_path = '{path}'\n",
    "mirrors 1.6": '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\n'
    'endpoint = ["https://mirror.example"]\n',
    "mirrors 2.4": "[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']\n"
    "endpoint = ['https://mirror.example']\n",
}
"""Pieces of config.toml: with a config_path, and with the older kind of mirror."""
_SHIM = """\
#!/bin/sh
read -r number <{counter}
number=$((number + 1))
echo "$number" >{counter}
echo "{name} $*" >>{words}
[ "$number" != {kill_at} ] || kill -9 0
exec {real} "$@"
"""
