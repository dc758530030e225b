"""What policies are filled with where a test does not say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.policy import Redirect
from components.types import Engine, Proxy
from settings import model


def values(engine: Engine, proxies: Sequence[Proxy], **others: Any) -> Redirect:
    """The values of a redirect policy; those not named are the settings' defaults."""
    defaults = model.Redirect()
    names = ("failure_policy", "timeout_seconds", "every_new_pod")
    return Redirect(
        engine=engine,
        proxies=proxies,
        **{name: getattr(defaults, name) for name in names} | others,
    )
