"""What a real node must leave as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

CANNOT = "this machine cannot have it: "
"""How the only reason to skip a test begins that CI takes; a part that is missing is none."""


def need(reason: str | None) -> None:
    """Skip the test if there is a reason why this machine cannot run it."""
    if reason:
        pytest.skip(f"{CANNOT}{reason}")


class Machine:
    """The mounts, links, settings and files of this machine at one moment."""

    SETTINGS = (
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/panic_on_oops",
        "/proc/sys/kernel/keys/root_maxkeys",
        "/proc/sys/net/ipv4/ip_forward",
    )
    FILES = (
        "/etc/containerd",
        "/etc/cni",
        "/etc/kubernetes",
        "/etc/resolv.conf",
        "/etc/ssl/certs/ca-certificates.crt",
        "/opt/cni",
        "/run/containerd",
        "/run/netns",
        "/run/real-node",
        "/usr/bin/systemctl",
        "/usr/libexec/kubernetes",
        "/usr/local/bin/containerd",
        "/var/lib/cni",
        "/var/lib/containerd",
        "/var/lib/kubelet",
        "/var/log/pods",
    )

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {
            "mounts": Path("/proc/self/mounts").read_text(),
            "links": [each for each in sorted(psutil.net_if_addrs()) if not _has_owner(each)],
            "settings": [Path(each).read_text() for each in self.SETTINGS],
            "files": [
                (each, Path(each).stat().st_mtime_ns if Path(each).exists() else None)
                for each in self.FILES
            ],
        }

    def changes_since(self, before: Machine) -> dict[str, Any]:
        """What is not as it was then; links of others that are gone since are no change."""
        changed = {name: seen for name, seen in self.seen.items() if seen != before.seen[name]}
        new_links = set(changed.pop("links", [])) - set(before.seen["links"])
        return {**changed, **({"links": new_links} if new_links else {})}


def _has_owner(link: str) -> bool:
    """Whether a link is of a rehearsal that is up, such as one of a second test run beside this."""
    try:
        folder = Path(f"/sys/class/net/{link}/ifalias").read_text().strip()
    except OSError:
        return False
    return bool(folder) and Path(folder).is_dir()


def processes_with(word: str) -> list[list[str]]:
    """The command lines that have this word in them."""
    return [
        each.info["cmdline"]
        for each in psutil.process_iter(["cmdline"])
        if any(word in part for part in each.info["cmdline"] or ())
    ]
