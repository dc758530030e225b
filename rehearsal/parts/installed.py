"""Programs that are on this machine already, taken only in the one version that is wanted."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Version:
    """How a program shows that it has the wanted version: by either of the two."""

    says: str = ""
    """A whole line it prints when it is asked, as a pattern; empty: it cannot be asked."""
    arguments: Sequence[str] = ("--version",)
    """What it is asked with."""
    module: str = ""
    """`module@version` in Go's own record of a build; empty: the record does not count.

    It knows the version of a program that only a release's build tells its version.
    """


def given(binary: str, package: str, version: Version) -> Path | None:
    """This binary of a Go package in KUBEBUILDER_ASSETS, else on PATH, in this version."""
    for places in filter(None, (os.environ.get(each) for each in ("KUBEBUILDER_ASSETS", "PATH"))):
        found = shutil.which(binary, path=places)
        if found and (_recorded(found, package, version.module) or _said(found, version)):
            return Path(found)
    return None


def _recorded(path: str, package: str, module: str) -> bool:
    """Whether the file is a build of the package from a checksummed download of the module."""
    if not module:
        return False
    record = "path\t{}\nmod\t{}\t{}\th1:".format(package, *module.split("@"))
    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content,
        ):
            return content.find(record.encode()) >= 0
    except (OSError, ValueError):  # ValueError: it is empty
        return False


def _said(path: str, version: Version) -> bool:
    if not version.says:
        return False
    try:
        said = subprocess.run(
            [path, *version.arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    lines = (said.stdout + said.stderr).splitlines()
    return any(re.fullmatch(version.says, line.strip()) for line in lines)
