"""Whether this machine can have a real node: what it takes is tried, not looked up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from rehearsal.cluster.node import cgroups
from rehearsal.parts import debian

NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--mount-proc")
"""What `unshare` gives a node."""

_TOOLS = ("unshare", "mount")
_OVERLAY = """\
mount -t tmpfs tmpfs /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
"""
_NETWORK = """\
ip link add trial type veth peer name trialn
echo 1 >/proc/sys/net/ipv4/ip_forward
"""
_TRIALS = (
    ("namespaces of its own", ":"),
    ("overlay file systems", _OVERLAY),
    ("a network of its own", _NETWORK),
)


def supported(*, in_a_cluster: bool = True) -> str | None:
    """Why this machine cannot have a real node, in one line; None if it can.

    Without `in_a_cluster`: one with containerd alone, in the machine's network. All that is tried
    is tried in namespaces that end with it, and in a cgroup that is removed.
    """
    if not sys.platform.startswith("linux"):
        return f"a real node needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "a real node needs root"
    tools = (*_TOOLS, "ip", *debian.TOOLS) if in_a_cluster else _TOOLS
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"a real node needs {', '.join(missing)} on PATH"
    for what, script in _TRIALS if in_a_cluster else _TRIALS[:-1]:
        tried = subprocess.run(
            ["unshare", *NAMESPACES, "sh", "-ec", script],
            capture_output=True,
            text=True,
            check=False,
        )
        if tried.returncode != 0:
            return f"a real node needs {what}: {' '.join(tried.stderr.split())}"
    reason = cgroups.unusable() if in_a_cluster else None
    return f"a real node needs a cgroup of its own: {reason}" if reason else None
