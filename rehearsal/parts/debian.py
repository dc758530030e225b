"""Programs that Debian builds: fetched into the per-user cache, never installed.

runc needs a C compiler to be built and so is no Go module among the parts.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rehearsal.locations import cache
from rehearsal.progress import Progress

PACKAGES: Mapping[str, Mapping[str, str]] = {
    "busybox-static": {"busybox-static": "bin/busybox"},
    "containerd": {
        name: f"usr/bin/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    "containernetworking-plugins": {"cni": "usr/lib/cni"},
    "docker.io": {"docker": "usr/bin/docker", "dockerd": "usr/sbin/dockerd"},
    "runc": {"runc": "usr/sbin/runc"},
}
"""Each package's programs and folders: name here, and path in the package."""
TOOLS = ("apt-get", "dpkg-deb")
"""What fetching a package needs."""
_APT_STATE = ("/var/lib/apt/lists", "/var/lib/dpkg/status")

_URI = re.compile(r"'[^']+' (?P<file>(?P<name>[^_\s]+)_\S+) \d+ SHA256:(?P<digest>[0-9a-f]{64})")


class PackageError(Exception):
    """A package cannot be had; the message, one line, says how to put it right."""


def obtain(names: Iterable[str], progress: Progress) -> dict[str, Path]:
    """The path of every program and folder of the packages named.

    Raises PackageError.
    """
    return {
        entry: folder / inner
        for name, folder in unpacked(names, progress).items()
        for entry, inner in PACKAGES[name].items()
    }


def unpacked(names: Iterable[str], progress: Progress) -> dict[str, Path]:
    """The folder with the files of each package named, in the version apt offers.

    apt checks each package against the signed list of its archive.
    Raises PackageError.
    """
    wanted = list(names)
    packages = {match["name"]: match for match in _URI.finditer(offered("download", *wanted))}
    found: dict[str, Path] = {}
    for name in wanted:
        if name not in packages:
            raise PackageError(f"apt offers no package {name}; run `apt-get update`")
        stem = packages[name]["file"].removesuffix(".deb")
        folder = cache() / "parts" / f"debian-{stem}-{packages[name]['digest'][:16]}"
        if not folder.is_dir():
            with progress.step(f"fetching Debian's {name}"):
                fetch([name], folder)
        found[name] = folder
    return found


def offered(*words: str) -> str:
    """What apt would download, each line with URI, file and checksum.

    apt reads all its lists for that; its answer is kept until they, or what is installed, change.
    """
    state = [str(Path(each).stat().st_mtime_ns) for each in _APT_STATE if Path(each).exists()]
    asked = [os.environ.get("APT_CONFIG", ""), *words, *state]
    digest = hashlib.sha256("\n".join(asked).encode()).hexdigest()
    kept = cache() / "apt" / digest[:16]
    if not kept.is_file():
        answer = _apt_get("--print-uris", *words)
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(answer)
        partial.rename(kept)
    return kept.read_text()


def fetch(names: Sequence[str], folder: Path) -> None:
    """Unpack packages into `folder`, all of them or nothing."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _apt_get("download", *names, folder=partial)
        for package in partial.glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(package), str(partial)])
            package.unlink()
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another rehearsal was quicker
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _apt_get(*words: str, folder: Path | None = None) -> str:
    return _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", *words], folder)


def _run(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PackageError(f"there is no {command[0]}") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise PackageError(f"`{' '.join(command)}` failed: {said}; try `apt-get update`")
    return done.stdout
