"""Where the real parts come from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from rehearsal.locations import GO_MODULES
from rehearsal.parts import build as parts
from rehearsal.parts.build import MODULES, PARTS, PartError, Profile, obtain
from rehearsal.progress import Progress

KUBERNETES = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"]
CONTAINERD = ["containerd", "ctr", "containerd-shim-runc-v2"]
HELM = 'version.BuildInfo{{Version:"{}", GitCommit:"b1", GoVersion:"go1.26.8"}}'


class Machine:
    """A machine with no parts: a PATH, an empty cache, and a Go that makes empty binaries."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self.path = folder / "path"
        self.assets = folder / "assets"
        self.cache = folder / "cache" / "vke-dockerhub-proxy"
        self._log = folder / "built"
        for each in (self.path, self.assets):
            each.mkdir()
        self._script(
            self.path / "go",
            'case "$1" in',
            "env) echo go1.99.0 ;;",
            f"build) echo build >> {self._folder / 'builds'}",
            '  while [ "$1" != -o ]; do shift; done',
            '  into=$2; shift 2; for package in "$@"; do',
            '    [ "$package" != . ] || package=$(basename "$PWD")',
            '    name=$(basename "${package%/v[0-9]}"); : > "$into$name"',
            f'    echo "$package" >> {self._log}; done ;;',
            f'mod) echo \'{{"Dir": "{folder / "module"}"}}\' ;;',
            "esac",
        )
        for source in (each for part in PARTS.values() for each in part.files.values()):
            (folder / "module" / source.partition("//")[2]).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache.parent))
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(self.assets))
        monkeypatch.setenv("PATH", f"{self.path}:/usr/bin:/bin")

    def has(
        self, name: str, says: str, *, asked: str = "--version", record: str = "", folder: str = ""
    ) -> Path:
        """Put a binary there that says its version when it is asked like that, and no other way."""
        target = (self._folder / folder if folder else self.path) / name
        target.parent.mkdir(exist_ok=True)
        return self._script(
            target,
            f"if [ \"$*\" != '{asked}' ]; then echo unknown flag >&2; exit 1; fi",
            f"echo '{says}'",
            "exit",
            record,
        )

    def built(self) -> list[str]:
        """The binaries built since this was last asked."""
        packages = self._log.read_text().split() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        names = {pkg: name for part in PARTS.values() for name, pkg in part.binaries.items()}
        return [names.get(package, package) for package in packages]

    def builds(self) -> int:
        """How often `go build` ran."""
        return (self._folder / "builds").read_text().count("build")

    def fail(self) -> None:
        """Have every build fail from now on."""
        self._script(self.path / "go", "[ $1 != build ] && echo go1.99.0")

    @staticmethod
    def _script(path: Path, *lines: str) -> Path:
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)
        return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def record(package: str, module: str, version: str, checksum: str = "h1:aaaa=") -> str:
    """What Go writes into a binary that it builds."""
    return f"path\t{package}\nmod\t{module}\t{version}\t{checksum}\n"


@pytest.mark.parametrize(
    ("part", "name", "asked", "says"),
    [
        pytest.param("etcd", "etcd", "--version", "etcd Version: 3.7.3", id="etcd"),
        *(
            pytest.param("kubernetes", name, "--version", "Kubernetes v1.37.2", id=name)
            for name in KUBERNETES[:-1]
        ),
        pytest.param(
            *("kubernetes", "kubectl", "version --client", "Client Version: v1.37.2"), id="kubectl"
        ),
        pytest.param(
            *("kwok", "kwok", "--version", "kwok version v0.8.0 go1.26.8 (linux/amd64)"), id="kwok"
        ),
        pytest.param(
            "registry",
            "registry",
            "--version",
            "/bin/registry github.com/distribution/distribution/v3 v3.1.2",
            id="registry",
        ),
        pytest.param("crane", "crane", "version", "v0.22.1", id="crane"),
        pytest.param("crane", "crane", "version", "0.22.1", id="crane of a release"),
        pytest.param("helm", "helm", "version", HELM.format("v4.3.1"), id="helm"),
        pytest.param(
            *("kyverno", "kubectl-kyverno", "version", "Version: v1.19.1"), id="kubectl-kyverno"
        ),
    ],
)
def test_a_binary_on_path_that_says_the_pinned_version_is_used(
    machine: Machine, part: str, name: str, asked: str, says: str
) -> None:
    there = machine.has(name, says, asked=asked)
    assert obtain([part], Progress())[name] == there
    assert machine.built() == [each for each in PARTS[part].binaries if each != name]


@pytest.mark.parametrize(
    ("part", "name", "asked", "says"),
    [
        pytest.param("etcd", "etcd", "--version", "etcd Version: 3.5.0", id="an older one"),
        pytest.param("etcd", "etcd", "--version", "etcd Version: 3.7.30", id="one more digit"),
        pytest.param(
            *("kubernetes", "kubelet", "--version", "Kubernetes v1.37.2-rc.0"), id="a candidate"
        ),
        pytest.param(
            "kubernetes",
            "kubectl",
            "version --client",
            "Client Version: v0.0.0-master+$Format:%H$",
            id="kubectl with no version",
        ),
        pytest.param("crane", "crane", "version", "(devel)", id="crane with no version"),
        pytest.param(
            "kwok", "kwok", "--version", "kwok version v0.8.0-alpha.1 go1.26.8", id="kwok's alpha"
        ),
        pytest.param(
            "registry",
            "registry",
            "--version",
            "registry github.com/distribution/distribution/v3 v3.1.2+unknown",
            id="registry with no version",
        ),
        pytest.param("helm", "helm", "version", HELM.format("v4.3"), id="helm with no version"),
        pytest.param("helm", "helm", "version", HELM.format("v4.3.10"), id="a later helm"),
    ],
)
def test_a_binary_that_says_anything_else_is_built(
    machine: Machine, part: str, name: str, asked: str, says: str
) -> None:
    machine.has(name, says, asked=asked)
    assert obtain([part], Progress())[name].is_relative_to(machine.cache / "parts")
    assert name in machine.built()


HELM_PACKAGE = "helm.sh/helm/v4/cmd/helm"
HELM_MODULE = "helm.sh/helm/v4"


def test_a_build_of_the_pinned_module_is_used_though_it_does_not_say_its_version(
    machine: Machine,
) -> None:
    built_so = record(HELM_PACKAGE, HELM_MODULE, "v4.3.1")
    there = machine.has("helm", HELM.format("v4.3"), asked="version", record=built_so)
    assert obtain(["helm"], Progress()) == {"helm": there}
    assert machine.built() == []


@pytest.mark.parametrize(
    "built_so",
    [
        pytest.param(record(HELM_PACKAGE, HELM_MODULE, "v4.3.0"), id="another version"),
        pytest.param(record(HELM_PACKAGE, HELM_MODULE, "v4.3.1+dirty", ""), id="changed files"),
        pytest.param(record(HELM_PACKAGE, HELM_MODULE, "v4.3.1", ""), id="files of a checkout"),
        pytest.param(record(HELM_PACKAGE, HELM_MODULE, "(devel)", ""), id="no version"),
        pytest.param(record("other/cmd/helm", HELM_MODULE, "v4.3.1"), id="another program"),
    ],
)
def test_a_build_of_anything_else_is_not_used(machine: Machine, built_so: str) -> None:
    machine.has("helm", HELM.format("v4.3"), asked="version", record=built_so)
    obtain(["helm"], Progress())
    assert machine.built() == ["helm"]


def test_a_controller_is_not_started_to_ask_its_version(machine: Machine, tmp_path: Path) -> None:
    started = tmp_path / "started"
    controller = machine.has("kyverno", "")
    controller.write_text(f"#!/bin/sh\ntouch {started}\n")
    obtain(["kyverno"], Progress())
    assert "kyverno" in machine.built()
    assert not started.exists()


def test_assets_come_before_path_where_both_have_the_version(machine: Machine) -> None:
    machine.has("etcd", "etcd Version: 3.7.3")
    there = machine.has("etcd", "etcd Version: 3.7.3", folder="assets")
    assert obtain(["etcd"], Progress()) == {"etcd": there}


def test_assets_in_another_version_do_not_hide_the_right_one_on_path(machine: Machine) -> None:
    there = machine.has("etcd", "etcd Version: 3.7.3")
    machine.has("etcd", "etcd Version: 3.5.0", folder="assets")
    assert obtain(["etcd"], Progress()) == {"etcd": there}


def test_only_what_is_missing_of_a_part_is_built(machine: Machine) -> None:
    """As with the assets of kubebuilder: etcd, kube-apiserver and kubectl."""
    machine.has("kube-apiserver", "Kubernetes v1.37.2", folder="assets")
    machine.has("kubectl", "Client Version: v1.37.2", asked="version --client", folder="assets")
    found = obtain(["kubernetes"], Progress())
    assert machine.built() == ["kube-controller-manager", "kube-scheduler", "kubelet"]
    assert all(path.is_file() for path in found.values())
    assert list(found) == KUBERNETES


def test_what_was_given_once_is_built_when_it_is_gone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has("kube-apiserver", "Kubernetes v1.37.2", folder="assets")
    obtain(["kubernetes"], Progress())
    machine.built()
    monkeypatch.delenv("KUBEBUILDER_ASSETS")
    found = obtain(["kubernetes"], Progress())
    assert machine.built() == ["kube-apiserver"]
    assert all(path.is_file() for path in found.values())


def test_of_a_part_that_is_given_its_files_are_kept(machine: Machine) -> None:
    machine.has("kwok", "kwok version v0.8.0 go1.26.8 (linux/amd64)")
    found = obtain(["kwok"], Progress())
    assert machine.built() == []
    assert found["stages"].is_dir()


@pytest.mark.parametrize("part", ["kubernetes", "kwok", "crane"])
def test_a_part_that_was_built_is_not_built_again(machine: Machine, part: str) -> None:
    first = obtain([part], Progress())
    assert machine.built() == list(PARTS[part].binaries)
    assert obtain([part], Progress()) == first
    assert machine.built() == []


def says_containerd(name: str, module: str, version: str) -> str:
    shim = f"{name}:\n  Version:  {version}\n  Revision: b1"
    return shim if "shim" in name else f"{name} {module} {version} b1"


@pytest.mark.parametrize(
    ("folders", "used"),
    [
        pytest.param(["path", "path", "path"], True, id="together"),
        pytest.param(["path", "path", "assets"], False, id="apart"),
        pytest.param(["path", "path"], False, id="one missing"),
    ],
)
def test_containerd_is_used_only_with_its_shim_and_ctr_beside_it(
    machine: Machine, folders: Sequence[str], used: bool
) -> None:
    for name, folder in zip(CONTAINERD, folders, strict=False):
        says = says_containerd(name, "github.com/containerd/containerd/v2", "v2.4.2")
        machine.has(name, says, asked="-v" if "shim" in name else "--version", folder=folder)
    found = obtain(["containerd"], Progress())
    assert machine.built() == ([] if used else CONTAINERD)
    assert len({path.parent for path in found.values()}) == 1


def test_a_containerd_of_another_version_is_not_used(machine: Machine) -> None:
    for name in CONTAINERD:
        says = says_containerd(name, "github.com/containerd/containerd", "v1.7.35")
        machine.has(name, says, asked="-v" if "shim" in name else "--version")
    obtain(["containerd"], Progress())
    assert machine.built() == CONTAINERD


def test_a_changed_pin_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "go"
    shutil.copytree(GO_MODULES / "oracle", modules / "oracle")
    monkeypatch.setattr(parts, "GO_MODULES", modules)
    before = parts._fingerprint("oracle", PARTS["oracle"], Profile.QUICK)
    with (modules / "oracle" / "go.sum").open("a") as sums:
        sums.write("x v1 h1:y\n")
    assert parts._fingerprint("oracle", PARTS["oracle"], Profile.QUICK) != before


def test_what_is_measured_is_built_apart(machine: Machine) -> None:
    quick = obtain(["nginx"], Progress())
    release = obtain(["nginx"], Progress(), Profile.RELEASE)
    assert quick != release
    assert machine.built() == ["nginx", "nginx"]


def test_parts_of_one_module_are_built_in_one_go(machine: Machine) -> None:
    found = obtain(["etcd", "kwok", "crane", "registry", "helm", "nginx"], Progress())
    assert sorted(machine.built()) == ["crane", "etcd", "helm", "kwok", "nginx", "registry"]
    assert machine.builds() == 2
    assert all(path.exists() for path in found.values())
    for name in ("crane", "registry"):
        assert found[name].parent.name.startswith(f"{name}-")


def test_a_build_that_fails_names_its_log(machine: Machine) -> None:
    machine.fail()
    with pytest.raises(PartError, match=r"oracle failed; see .*build-oracle\.log"):
        obtain(["oracle"], Progress())
    assert not list(machine.cache.glob("parts/oracle-????????????????"))


def test_every_module_is_pinned_and_checksummed() -> None:
    assert {part.module for part in PARTS.values()} == MODULES.keys()
    for name in MODULES:
        module = (GO_MODULES / name / "go.mod").read_text()
        if "require" in module:
            assert (GO_MODULES / name / "go.sum").is_file(), name
        assert "latest" not in module
