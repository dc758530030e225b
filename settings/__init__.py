"""The stack's typed inputs: `load()`, and what it returns.

The only reader of `pulumi.Config`; everything is checked before any resource is declared.
"""

from __future__ import annotations

from settings.errors import SettingsError
from settings.model import Cluster as ClusterSettings
from settings.model import Settings, validate
from settings.reader import load, parse, secret
from settings.rules import warnings

__all__ = [
    "ClusterSettings",
    "Settings",
    "SettingsError",
    "load",
    "parse",
    "secret",
    "validate",
    "warnings",
]
