"""Where the real parts come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rehearsal import parts
from rehearsal.locations import GO_MODULES
from rehearsal.parts import PARTS, Part, obtain
from rehearsal.progress import Progress


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vke-dockerhub-proxy"


def binary(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_part_given_in_the_right_version_is_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = binary(tmp_path / "assets", "etcd", "etcd Version: 3.7.3")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given.parent))
    assert obtain(["etcd"], Progress()) == {"etcd": given}
    assert not (cache / "parts").exists()


def test_a_part_given_in_another_version_is_built(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = binary(tmp_path / "assets", "etcd", "etcd Version: 3.5.0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given.parent))
    built: list[str] = []

    def build(name: str, _: Part, folder: Path, __: Progress) -> None:
        built.append(name)
        folder.mkdir(parents=True)

    monkeypatch.setattr(parts, "_build", build)
    found = obtain(["etcd"], Progress())
    assert built == ["etcd"]
    assert found["etcd"].is_relative_to(cache / "parts")


@pytest.mark.usefixtures("cache")
def test_a_part_that_was_built_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(name: str, _: Part, folder: Path, __: Progress) -> None:
        built.append(name)
        folder.mkdir(parents=True)

    monkeypatch.setattr(parts, "_build", build)
    monkeypatch.setattr(parts, "_given", lambda *_: None)
    first, second = obtain(["crane"], Progress()), obtain(["crane"], Progress())
    assert first == second
    assert built == ["crane"]


def test_a_changed_pin_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "go"
    shutil.copytree(GO_MODULES / "crane", modules / "crane")
    monkeypatch.setattr(parts, "GO_MODULES", modules)
    before = parts._fingerprint("crane", PARTS["crane"])
    with (modules / "crane" / "go.sum").open("a") as sums:
        sums.write("x v1 h1:y\n")
    assert parts._fingerprint("crane", PARTS["crane"]) != before


def test_every_module_is_pinned_and_checksummed() -> None:
    for name in PARTS:
        module = (GO_MODULES / name / "go.mod").read_text()
        if "require" in module:
            assert (GO_MODULES / name / "go.sum").is_file(), name
        assert "latest" not in module
