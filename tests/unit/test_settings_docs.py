"""What is said of the settings outside of the model: the editors' schema and the READMEs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rehearsal.locations import CHECKOUT
from settings import schema
from settings.errors import PROJECT
from settings.model import Registry, Section, Settings, Upstream
from tests.support.configs import ENTERPRISE, MICRO, STACK_FILES, changed

READMES = [CHECKOUT / "README.md", CHECKOUT / "docs" / "README.zh-CN.md"]


def invalid(document: Any) -> list[str]:
    """The places in a stack file that an editor would mark."""
    validator = jsonschema.Draft7Validator(json.loads(schema.SCHEMA.read_text(encoding="utf-8")))
    return [
        "/".join(map(str, leaf.absolute_path))
        for error in validator.iter_errors(document)
        for leaf in (error.context or [error])
    ]


def stack_file(sections: dict[str, Any]) -> dict[str, Any]:
    own = {f"{PROJECT}:{name}": section for name, section in sections.items()}
    return {"config": {"volcengine:region": "cn-beijing", **own}}


def test_the_schema_is_the_one_make_schema_writes() -> None:
    assert schema.SCHEMA.read_text(encoding="utf-8") == schema.text(), "run `make schema`"


def test_every_target_of_make_that_is_named_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    command = ["git", "grep", "-hoE", "(`|^)make [a-z]+", "--", "*.md", "*.py"]
    named = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    assert {each.split()[1] for each in named.splitlines()} <= targets


@pytest.mark.parametrize("path", STACK_FILES.values(), ids=lambda path: path.name)
def test_every_stack_file_is_valid_and_names_the_schema_to_editors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first == f"# yaml-language-server: $schema={schema.SCHEMA.relative_to(CHECKOUT)}"
    assert invalid(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    ("path", "value", "marked"),
    [
        ("registry.edition", "Small", "registry/edition"),
        ("registry.name", "1hub", "registry/name"),
        ("registry.names", "hub", "registry"),
        ("registry.namespaces.0.access", "public", "registry/namespaces/0/access"),
        ("clusters.0.ways", ["pods"], "clusters/0/ways/0"),
        ("kyverno.replicas", "3", "kyverno/replicas"),
        ("login.password", "in-plaintext-1A", "login/password"),
        ("redirct", {}, "redirct"),
    ],
)
def test_an_editor_marks_an_invalid_setting(path: str, value: Any, marked: str) -> None:
    encrypted = {"password": {"secure": "AAAB"}}
    valid = {**MICRO, "login": encrypted}
    assert invalid(stack_file(valid)) == []
    assert invalid(stack_file({**ENTERPRISE, "login": encrypted, "dockerhub": encrypted})) == []
    places = invalid(stack_file(changed(valid, path, value)))
    assert any(f"config/{PROJECT}:{marked}".startswith(place) for place in places), places
    assert places


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting, as the READMEs write it, and its field; none that upstreams inherit."""
    for key, field in model.model_fields.items():
        if model is Upstream and key in Registry.model_fields:
            continue
        name = f"{prefix}{field.alias}"
        annotation: Any = field.annotation
        items = get_args(annotation)[0] if name in {"clusters", "upstreams"} else None
        inner = get_args(items)[0] if get_args(items) else items
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from settings_of(annotation, f"{name}.")
        elif inner is not None:
            yield from settings_of(inner, f"{name}[].")
        elif name != "volcengine:region":
            yield name, field


def rows(readme: Path) -> Iterator[tuple[str, str]]:
    """Setting and default of each row of the table of settings."""
    for line in readme.read_text(encoding="utf-8").splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if found := re.fullmatch(r"`([a-zA-Z]+(\[\])?\.[a-zA-Z.]+)`", cells[0]):
            yield found[1], cells[1]


def default_in_words(field: FieldInfo) -> str | None:
    """A default as the READMEs write it; None for one that is described in words, such as none."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None or value in ([], {}):
        return None
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    plain = value.value if isinstance(value, Enum) else value
    return f"`{json.dumps(plain) if isinstance(plain, bool) else plain}`"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_readme_lists_exactly_the_settings_with_their_defaults(readme: Path) -> None:
    fields = dict(settings_of(Settings))
    table = dict(rows(readme))
    assert sorted(name for name, _ in rows(readme)) == sorted(fields)
    for name, field in fields.items():
        expected = default_in_words(field)
        if expected is None:
            assert table[name], f"{name}: what is it when not set?"
        else:
            assert table[name] == expected, name


def test_every_setting_is_described_to_editors() -> None:
    definitions = schema.stack_file_schema()["$defs"]
    silent = [
        f"{section}.{name}"
        for section, definition in definitions.items()
        for name, field in definition.get("properties", {}).items()
        if not field.get("description")
    ]
    assert silent == []
