"""The rehearsal does not import the stack; what it repeats is held to be the same."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import get_args

import pytest

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE
from components.types import Access, Edition
from rehearsal import proof
from rehearsal.cloud.api import state
from rehearsal.cloud.registries.gate import AccessLevel


@pytest.mark.parametrize(
    ("ours", "rehearsed"),
    [
        (Edition, get_args(state.Edition)),
        (Access, get_args(AccessLevel)),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_rehearsal_knows_the_same_words(
    ours: type[StrEnum], rehearsed: Collection[str]
) -> None:
    assert {each.value for each in ours} == set(map(str, rehearsed))


def test_the_rehearsal_opts_out_by_the_stacks_own_label() -> None:
    assert proof._OPT_OUT == {OPT_OUT_LABEL: OPT_OUT_VALUE}
