"""A stack file read without Pulumi and without its secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from settings.errors import PROJECT
from settings.model import SECTIONS, Settings, validate


@dataclass(frozen=True, kw_only=True)
class StackFile:
    """What a stack file says."""

    settings: Settings
    """Its settings without secrets. The rules between settings are not checked."""
    sections: Mapping[str, Any]
    """Its sections as written, without secrets."""


def config_in(path: Path) -> Mapping[str, Any]:
    """The config of `Pulumi.<stack>.yaml` as written: secrets encrypted, keys with their project.

    Raises:
        OSError: when the file cannot be read.
        yaml.YAMLError: when it is no YAML.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = document.get("config") if isinstance(document, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def is_encrypted(value: Any) -> bool:
    """Whether a value of a stack file is an encrypted one."""
    return isinstance(value, Mapping) and set(value) == {"secure"}


def read_stack_file(path: Path) -> StackFile:
    """Read `Pulumi.<stack>.yaml`.

    Raises:
        OSError: when the file cannot be read.
        yaml.YAMLError: when it is no YAML.
        SettingsError: when a setting is invalid.
    """
    plain = _without_secrets(config_in(path))
    sections = {
        name: _structure(plain[f"{PROJECT}:{name}"])
        for name in SECTIONS
        if f"{PROJECT}:{name}" in plain
    }
    settings = validate(sections, region=plain.get("volcengine:region"))
    return StackFile(settings=settings, sections=sections)


def _without_secrets(value: Any) -> Any:
    """The value without what is encrypted in it."""
    if isinstance(value, Mapping):
        return {
            name: _without_secrets(child)
            for name, child in value.items()
            if not is_encrypted(child)
        }
    if isinstance(value, list):
        return [_without_secrets(child) for child in value if not is_encrypted(child)]
    return value


def _structure(value: Any) -> Any:
    """A section; `pulumi config set` without `--path` writes it as JSON in a string."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
