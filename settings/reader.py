"""The only reader of `pulumi.Config`.

`load()` returns `Settings` that are valid, or raises one `SettingsError` with every problem found,
before any resource is declared. Problems inside the sections come first; the rules between
settings are checked when there are none. Rules name their source: "page" is Volcengine's "Pull
Docker Hub images in VKE", "API" the Container Registry API, "provider" Pulumi's Volcengine
provider.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime.config import CONFIG, get_config_env
from pydantic import SecretStr

from settings import errors, stack_file
from settings.errors import PROJECT, SECRET_FIELDS, Problem, SettingsError, command, setting_path
from settings.model import SECTIONS, Settings, validate
from settings.rules import check_rules

STACK_FILES = Path(__file__).resolve().parents[1]
"""The folder of the stack files."""


def secret(value: SecretStr | None) -> pulumi.Output[str] | None:
    """A secret of the config as Pulumi takes it; None when it is not set."""
    return None if value is None else pulumi.Output.secret(value.get_secret_value())


def load() -> Settings:
    """Read the current stack's config.

    Raises:
        SettingsError: with every problem found.
    """
    config = pulumi.Config(PROJECT)
    sections: dict[str, Any] = dict.fromkeys(_unknown_keys())
    problems: list[Problem] = []
    for section in SECTIONS:
        text = config.get(section)
        if text is None:
            continue
        try:
            value = sections[section] = json.loads(text)
        except json.JSONDecodeError:
            do = f"write `{PROJECT}:{section}:` and its keys below it in the stack file"
            problems.append(
                Problem(
                    setting=section,
                    found="text, not a structure",
                    allowed="a mapping or list in YAML",
                    do=do,
                )
            )
            continue
        if pulumi.runtime.is_config_secret(f"{PROJECT}:{section}"):
            # One encrypted value makes the whole section a secret to Pulumi; the file says which.
            value = _section_of_the_stack_file(section)
        problems += map(_in_plaintext, _plaintext_secrets(value, (section,)))
    region = pulumi.Config("volcengine").get("region")
    return parse(sections, region=region, found=problems)


def parse(
    sections: Mapping[str, Any], *, region: str | None, found: Sequence[Problem] = ()
) -> Settings:
    """Valid settings from the sections of a stack's config; `found` are problems known already.

    Raises:
        SettingsError: with every problem found, those in `found` first.
    """
    settings = validate(sections, region=region, found=found)
    if problems := list(check_rules(settings)):
        raise SettingsError(problems)
    return settings


def _unknown_keys() -> list[str]:
    """The project's keys in the config that are no section; Pulumi itself takes any."""
    keys = {**get_config_env(), **CONFIG.get()}
    own = (key.removeprefix(f"{PROJECT}:") for key in keys if key.startswith(f"{PROJECT}:"))
    return [key for key in own if key not in SECTIONS]


def _section_of_the_stack_file(section: str) -> Any:
    """A section with its secrets encrypted; None when the stack's file cannot be read."""
    try:
        config = stack_file.config_in(STACK_FILES / f"Pulumi.{pulumi.get_stack()}.yaml")
    except (OSError, yaml.YAMLError):
        return None
    return config.get(f"{PROJECT}:{section}")


def _plaintext_secrets(value: Any, path: errors.Path) -> Iterator[errors.Path]:
    """Where a secret is not encrypted."""
    items: Iterable[tuple[int | str, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        if key not in SECRET_FIELDS:
            yield from _plaintext_secrets(child, (*path, key))
        elif child and not stack_file.is_encrypted(child):
            yield (*path, key)


def _in_plaintext(path: errors.Path) -> Problem:
    setting = setting_path(path)
    return Problem(
        setting=setting,
        found="a secret in plaintext (not shown)",
        allowed="an encrypted value",
        do=f"change this secret, it was in a file; then {command(setting, secret=True)}",
    )
