"""The stack's typed inputs: `load()`, and what it returns.

The only reader of `pulumi.Config`; everything is checked before any resource is declared.
"""

from __future__ import annotations

from settings.errors import SettingsError
from settings.model import Cluster as ClusterSettings
from settings.model import Settings
from settings.reader import load, parse, secret
from settings.rules import warnings
from settings.types import Edition, PodLogin, Way

__all__ = [
    "ClusterSettings",
    "Edition",
    "PodLogin",
    "Settings",
    "SettingsError",
    "Way",
    "load",
    "parse",
    "secret",
    "warnings",
]
