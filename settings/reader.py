"""The stack's typed inputs: their shape, their rules and their error texts.

This is the only reader of `pulumi.Config`. `load()` returns a `Settings` that is right, or raises
one `SettingsError` that names every problem at once, before any resource is declared. Rules carry
their source: "page" is Volcengine's "Pull Docker Hub images in VKE", "API" the Container Registry
API, "provider" Pulumi's Volcengine provider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env
from pydantic import SecretStr

from settings.errors import PROJECT, Problem, SettingsError
from settings.model import SECTIONS, Settings
from settings.plain_secrets import plain_secrets, section_in
from settings.rules import across
from settings.validation import validate


def secret(value: SecretStr | None) -> pulumi.Output[str] | None:
    """A secret of the config as Pulumi takes it; None when it is not set."""
    return None if value is None else pulumi.Output.secret(value.get_secret_value())


def load() -> Settings:
    """Read the current stack's config.

    Raises:
        SettingsError: with every problem found.
    """
    config = pulumi.Config(PROJECT)
    stack_file = Path(__file__).resolve().parents[1] / f"Pulumi.{pulumi.get_stack()}.yaml"
    raw: dict[str, Any] = dict.fromkeys(_unknown_keys())
    problems: list[Problem] = []
    for section in SECTIONS:
        text = config.get(section)
        if text is None:
            continue
        try:
            raw[section] = json.loads(text)
        except json.JSONDecodeError:
            problems.append(
                Problem(
                    setting=section,
                    found="text, not a structure",
                    allowed="a mapping or list in YAML",
                    do=f"write `{PROJECT}:{section}:` and its keys below it in the stack file",
                )
            )
            continue
        encrypted = pulumi.runtime.is_config_secret(f"{PROJECT}:{section}")
        problems += plain_secrets(
            section, section_in(stack_file, section) if encrypted else raw[section]
        )
    region = pulumi.Config("volcengine").get("region")
    return parse(raw, region=region, found=problems)


def _unknown_keys() -> list[str]:
    """The project's keys in the config that are no section; Pulumi itself takes any."""
    keys = {**get_config_env(), **CONFIG.get()}
    own = (key.removeprefix(f"{PROJECT}:") for key in keys if key.startswith(f"{PROJECT}:"))
    return [key for key in own if key not in SECTIONS]


def parse(raw: Mapping[str, Any], *, region: str | None, found: Sequence[Problem] = ()) -> Settings:
    """Turn plain config into `Settings`; `found` are problems known already.

    Raises:
        SettingsError: with every problem found, those in `found` first.
    """
    problems = list(found)
    if not region:
        problems.append(
            Problem(
                setting="volcengine:region",
                found="nothing",
                allowed="a Volcengine region such as cn-beijing",
                do="pulumi config set volcengine:region cn-beijing",
            )
        )
    read = validate({**raw, "volcengine:region": region or "unset"})
    problems += read.problems
    if read.settings is not None:
        refused = [*read.refused, *(each.setting for each in found)]
        problems += map(read.as_written, across(read.settings, refused))
    if problems or read.settings is None:
        raise SettingsError(list(dict.fromkeys(problems)))
    return read.settings
