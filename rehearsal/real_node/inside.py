"""The first process of a real node, in namespaces of its own: `python -m … SPEC.json`.

It lays the node's files over the machine's, configures its network, then starts containerd and
the kubelet, starts each again a second after it ended, as a service manager would, and reaps what
is left to it. When it ends, the kernel ends everything in the node and undoes all its mounts.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_SCRATCH = Path("/run/real-node")
_COVERED = ("/etc", "/var", "/opt")
_OWN = ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/cni", "/etc/containerd", "/etc/cni")
"""Folders that start empty whatever the machine has there. containerd's could not be on an overlay
anyway: its snapshots are overlays themselves."""
_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What a kubelet sets on its machine."""
_NETWORK_SECONDS = 20.0
_RESTART_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What the node is made from."""

    etc: str
    """A folder whose content is laid over /etc."""
    address: str
    """The node's IPv4 address with its prefix length."""
    services: dict[str, list[str]]
    """Each service's command, in the order of starting."""
    environment: dict[str, str]
    """Of the services."""
    logs: str
    """A folder for one log a service, `real-node-<service>.log`."""


def main(spec: Spec) -> None:
    """Become the node; does not return."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logs = {
        name: os.open(
            Path(spec.logs) / f"real-node-{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        for name in spec.services
    }
    etc = Path(spec.etc)
    files = {each.relative_to(etc): each.read_bytes() for each in etc.rglob("*") if each.is_file()}
    _mount()
    for path, content in files.items():
        _place(Path("/etc") / path, content)
    _network(spec.address)
    _supervise(spec, logs)


def _mount() -> None:
    _run("mount", "--make-rshared", "/")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in filter(os.path.isdir, _COVERED):
        upper, work = (_SCRATCH / kind / folder.strip("/") for kind in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        layers = f"lowerdir={folder},upperdir={upper},workdir={work}"
        _run("mount", "-t", "overlay", "-o", layers, "overlay", folder)
    for own in _OWN:
        source = _SCRATCH / "own" / own.strip("/")
        source.mkdir(parents=True)
        Path(own).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(source), own)
    for sysctl in _SYSCTLS:
        setting = Path("/proc/sys") / sysctl
        scratch = _SCRATCH / "sysctl" / sysctl
        scratch.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(setting.read_text())
        _run("mount", "--bind", str(scratch), str(setting))


def _place(target: Path, content: bytes) -> None:
    """Write a file that only root may read, in place of what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(0o644 if target.name in {"resolv.conf", "hosts"} else 0o600)


def _network(address: str) -> None:
    deadline = time.monotonic() + _NETWORK_SECONDS
    while "eth0" not in (name for _, name in socket.if_nameindex()):
        if time.monotonic() > deadline:
            sys.exit("the node was given no network")
        time.sleep(0.02)
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "addr", "add", address, "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    settings = Path("/proc/sys/net/ipv4")
    (settings / "ip_forward").write_text("1")
    (settings / "conf/eth0/proxy_arp").write_text("1")


def _supervise(spec: Spec, logs: dict[str, int]) -> None:
    running = {_start(name, spec, logs[name]): name for name in spec.services}
    while True:
        ended, _ = os.wait()
        name = running.pop(ended, None)
        if name is not None:
            os.write(logs[name], f"{name} ended and is started again\n".encode())
            time.sleep(_RESTART_SECONDS)
            running[_start(name, spec, logs[name])] = name


def _start(name: str, spec: Spec, log: int) -> int:
    command = spec.services[name]
    return os.posix_spawn(
        command[0],
        command,
        {**os.environ, **spec.environment},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ],
        setsid=True,
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Spec(**json.loads(Path(sys.argv[1]).read_text())))
