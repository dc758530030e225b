"""What the rehearsal repeats of the stack, since it may not import it, is the same there."""

from __future__ import annotations

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE
from rehearsal import proof


def test_the_rehearsal_opts_out_by_the_stacks_own_label() -> None:
    assert proof._OPT_OUT == {OPT_OUT_LABEL: OPT_OUT_VALUE}
