"""The parts as they are really built."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.parts.build import PARTS, obtain
from rehearsal.progress import Progress

OWN = ("oracle", "nginx")


@pytest.mark.parametrize("part", [each for each in PARTS if each not in OWN])
def test_what_is_built_is_used_when_it_is_found_on_path(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a pin was changed, and what says it has the version was not."""
    built = obtain([part], Progress())
    for name in PARTS[part].binaries:
        (tmp_path / name).symlink_to(built[name])
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = obtain([part], Progress())
    assert {name: found[name] for name in PARTS[part].binaries} == {
        name: tmp_path / name for name in PARTS[part].binaries
    }
