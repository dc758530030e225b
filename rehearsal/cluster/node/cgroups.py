"""The node's own folder in every cgroup hierarchy of the machine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from rehearsal import wait
from rehearsal.errors import RehearsalError

_MOUNT = Path("/sys/fs/cgroup")
_CPUSET = ("cpuset.cpus", "cpuset.mems")
_OF_KUBELET = {"cpu", "cpuset", "hugetlb", "memory", "pids"}
_EMPTY_SECONDS = 10.0


class CgroupError(RehearsalError):
    """A cgroup cannot be removed; the message names it."""


def is_version_1() -> bool:
    """Whether this machine has cgroup v1 hierarchies."""
    return not (_MOUNT / "cgroup.controllers").exists()


def create(name: str) -> None:
    """Make a cgroup in the root of every hierarchy.

    A new cpuset has no CPUs and takes no process, so it gets those of the root.
    """
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in _CPUSET:
            current = hierarchy / setting
            if is_version_1() and current.exists():
                (folder / setting).write_text(current.read_text())


def remove(name: str) -> None:
    """Remove a cgroup with all below it from every hierarchy; one not there is no error.

    Processes that are being killed leave their cgroup a moment later: it waits for that.
    Raises CgroupError when one is still in use after 10 s.
    """

    def removed() -> bool:
        for cgroup in found(name):
            for folder in _bottom_up(cgroup):
                folder.rmdir()
        return not found(name)

    try:
        wait.until(removed, f"{name} is removed", timeout=_EMPTY_SECONDS, ignoring=OSError)
    except wait.NotInTimeError as error:
        raise CgroupError(str(error)) from error


def unusable() -> str | None:
    """Why a node's cgroup cannot be created here; None if one was created, and removed again."""
    if not _hierarchies():
        return f"none is mounted in {_MOUNT}"
    name = f"vke-rehearsal-trial-{secrets.token_hex(4)}"
    try:
        create(name)
        missing = _missing_controllers(name)
    except OSError as error:
        return str(error)
    finally:
        remove(name)
    return f"{_MOUNT} gives it no {', '.join(missing)} controller" if missing else None


def _missing_controllers(name: str) -> list[str]:
    """The controllers a kubelet asks for, the machine has, and a version 2 cgroup does not have."""
    if is_version_1():
        return []
    has, delegated = (
        set((folder / "cgroup.controllers").read_text().split())
        for folder in (_MOUNT, _MOUNT / name)
    )
    return sorted(_OF_KUBELET & has - delegated)


def found(name: str) -> list[Path]:
    """The folders of this cgroup that exist."""
    return [each / name for each in _hierarchies() if (each / name).exists()]


def _hierarchies() -> list[Path]:
    if not is_version_1():
        return [_MOUNT]
    if not _MOUNT.is_dir():
        return []
    return [each for each in sorted(_MOUNT.iterdir()) if (each / "cgroup.procs").exists()]


def _bottom_up(folder: Path) -> Iterator[Path]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _bottom_up(each)
    yield folder
