"""The first process of a real node, in namespaces of its own: `python -m … SPEC.json`.

It lays the node's files over the machine's, configures its network, then runs its services. When it
ends, the kernel ends everything in the node and undoes all its mounts.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rehearsal import wait
from rehearsal.cluster.node import services

_SCRATCH = services.FOLDER
_COVERED = ("/etc", "/opt", "/usr", "/var")
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
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions keep the authorities that programs trust (Go's crypto/x509 reads these)."""
_NETWORK_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What the node consists of."""

    etc: str
    """A folder whose content is laid over /etc."""
    authority: str
    """The certificate authority that everything on the node trusts, and no other, PEM."""
    programs: list[str]
    """Programs that are on everyone's PATH in the node, by their own names."""
    services: dict[str, list[str]]
    """Each service's command, in the order of starting."""
    logs: str
    """A folder for one log a service, `real-node-<service>.log`."""
    address: str | None = None
    """The node's IPv4 address with its prefix length; None: it has the machine's network."""
    service_address: str | None = None
    """A further address, for the cluster's `kubernetes` Service."""


def main(spec: Spec) -> None:
    """Become the node; does not return."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    logs = {name: _open_log(Path(spec.logs) / f"real-node-{name}.log") for name in spec.services}
    etc = Path(spec.etc)
    files = {each.relative_to(etc): each.read_bytes() for each in etc.rglob("*") if each.is_file()}
    authority = Path(spec.authority).read_text()
    _mount()
    _place(files)
    _trust(authority)
    _install(spec.programs)
    if spec.address:
        _network(spec.address, f"{spec.service_address}/32")
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "PYTHONPATH": os.environ["PYTHONPATH"],
    }
    services.Manager(spec.services, environment, logs).run()


def _open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


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


def _place(files: Mapping[Path, bytes]) -> None:
    """Write files below /etc in place of what was there; most for root alone."""
    for path, content in files.items():
        target = Path("/etc") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(content)
        target.chmod(0o644 if len(path.parts) == 1 else 0o600)


def _trust(authority: str) -> None:
    bundles = [Path(each) for each in _BUNDLES if Path(each).exists()] or [Path(_BUNDLES[0])]
    for bundle in bundles:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_text(authority)


def _install(programs: Iterable[str]) -> None:
    folder = Path("/usr/local/bin")
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs:
        link = folder / Path(program).name
        link.unlink(missing_ok=True)
        link.symlink_to(program)
    services.write_systemctl(Path("/usr/bin/systemctl"))


def _network(address: str, service_address: str) -> None:
    wait.until(
        lambda: "eth0" in (name for _, name in socket.if_nameindex()),
        "the node has its network",
        timeout=_NETWORK_SECONDS,
        interval=0.02,
    )
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "addr", "add", service_address, "dev", "lo")
    _run("ip", "addr", "add", address, "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    settings = Path("/proc/sys/net/ipv4")
    (settings / "ip_forward").write_text("1")
    (settings / "conf/eth0/proxy_arp").write_text("1")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Spec(**json.loads(Path(sys.argv[1]).read_text())))
