"""A real containerd in a mount namespace of its own: the machine's files stay as they are.

Linux and root. In the namespace `/etc` and `/var/lib` are overlays, `/run` is empty, and Docker
Hub's name and the proxy's lead where the config says. containerd has its usual paths there, so
what works on it works on a node: `/etc/containerd/config.toml`, `systemctl restart containerd`
(a stand-in that restarts this one), `/run/containerd/containerd.sock`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc

from rehearsal import wait
from rehearsal.processes import Processes, end_group

_SOCKET = "run/containerd/containerd.sock"
_READY_SECONDS = 30.0
_SETUP = """\
set -e
for folder in etc var/lib; do
  mkdir -p "$1/$folder/upper" "$1/$folder/work"
  mount -t overlay overlay \
    -o "lowerdir=/$folder,upperdir=$1/$folder/upper,workdir=$1/$folder/work" "/$folder"
done
mount -t tmpfs tmpfs /run
mkdir -p /etc/containerd /var/lib/containerd "$1/content" "$1/host"
mount --bind "$1/content" /var/lib/containerd
cat "$1/hosts" >/etc/hosts
cat "$1/ca.crt" >>/etc/ssl/certs/ca-certificates.crt
mount --rbind / "$1/host"
touch "$1/ready"
exec sleep infinity
"""
_SYSTEMCTL = """\
#!/bin/sh
# Stands in for systemd: `systemctl restart containerd`, and `show` of the unit's environment.
if [ "$1" = show ]; then
  [ "$3" != Environment ] || cat {folder}/environment 2>/dev/null
  exit
fi
[ "$1 $2" = "stop containerd" ] || [ "$1 $2" = "restart containerd" ] || exit 1
echo "$1" >>{folder}/systemctl.log
if [ -f {folder}/pid ]; then
  pid=$(cat {folder}/pid)
  kill -9 "$pid" 2>/dev/null
  while grep -qs '^State:[^Z]*$' "/proc/$pid/status"; do sleep 0.02; done
  rm -f {folder}/pid
fi
[ "$1" = restart ] || exit 0
setsid {folder}/bin/containerd >>{folder}/containerd.log 2>&1 </dev/null &
echo $! >{folder}/pid
"""


class NodeError(Exception):
    """An image cannot be pulled; the message says why."""


def unavailable() -> str | None:
    """Why no containerd can be run here; None where it can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    try:
        tried = subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "needs util-linux (unshare)"
    return f"cannot mount: {tried.stderr.strip()}" if tried.returncode else None


class ContainerdNode:
    """A mount namespace with a containerd in it that can be reset, asked and restarted."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        binaries: Path,
        hosts: Mapping[str, str],
        ca_certificate: Path,
    ) -> None:
        """Make the namespace.

        `folder` is its own, not on an overlay file system; `binaries` has containerd, ctr and the
        shim. It resolves the names in `hosts` and trusts the authority. Raises ProcessError.
        """
        self._folder = folder
        self.binaries.mkdir(parents=True)
        for each in binaries.iterdir():
            (self.binaries / each.name).symlink_to(each)
        systemctl = self.binaries / "systemctl"
        systemctl.write_text(_SYSTEMCTL.format(folder=folder))
        systemctl.chmod(0o755)
        names = {"localhost": "127.0.0.1", **hosts}
        text = "".join(f"{address} {name}\n" for name, address in names.items())
        (folder / "hosts").write_text(text)
        shutil.copyfile(ca_certificate, folder / "ca.crt")
        self._holder = processes.start(
            "node",
            ["unshare", "-m", "sh", "-c", _SETUP, "sh", folder],
            ready=(folder / "ready").exists,
        ).pid

    @property
    def root(self) -> Path:
        """The node's root folder, as seen from outside its namespace."""
        return Path(f"/proc/{self._holder}/root")

    @property
    def binaries(self) -> Path:
        """The folder with its containerd and the replacement of systemctl."""
        return self._folder / "bin"

    @property
    def host_folder(self) -> Path:
        """Where, inside its namespace, its root is mounted again, as a Pod mounts it."""
        return self._folder / "host"

    @property
    def restarts(self) -> int:
        """How often containerd was restarted since the last reset."""
        try:
            return (self._folder / "systemctl.log").read_text().count("restart")
        except FileNotFoundError:
            return 0

    def reset(self, config: str | None, files: Mapping[str, str] | None = None) -> None:
        """Bring it to a state: config.toml's text (None: no such file), more files in /etc.

        `files` are by path under /etc/containerd. containerd runs afterwards, freshly started.
        """
        self.run(["systemctl", "stop", "containerd"])
        etc = self.root / "etc/containerd"
        for each in etc.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        if config is not None:
            (etc / "config.toml").write_text(config)
        for name, text in (files or {}).items():
            path = etc / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.run(["systemctl", "restart", "containerd"])
        self.wait_ready()
        (self._folder / "systemctl.log").unlink(missing_ok=True)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node; its PATH has containerd's folder first."""
        process = self.start(command, environment=environment)
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            end_group(process.pid)
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def start(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command on the node, in a session of its own."""
        path = os.pathsep.join((str(self.binaries), "/usr/sbin", "/usr/bin", "/sbin", "/bin"))
        return subprocess.Popen(
            ["nsenter", "-t", str(self._holder), "-m", "--", *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": path, **(environment or {})},
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Wait until containerd's CRI answers. Raises NotInTimeError."""

        def answers() -> bool:
            self._call("ListImages", b"", timeout=2)
            return True

        wait.until(
            answers,
            f"containerd answers; see {self._folder}/containerd.log",
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
        """Remove an image by CRI; one that is not there is no error."""
        self._call("RemoveImage", _image_request(image), timeout=30)

    def _call(self, method: str, request: bytes, *, timeout: float) -> bytes:
        """Call a method of CRI's image service."""
        # A pool of its own: the shared one makes calls wait a second after a restart.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        target = f"unix://{self.root}/{_SOCKET}"
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
