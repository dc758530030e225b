"""A rehearsal that is ended while it starts or deploys, without a real node."""

from __future__ import annotations

import signal

import pytest

from tests.support.machine import processes_with
from tests.support.rehearsals import interrupted_at, rehearsal, up_interrupted_at


def test_ctrl_c_stops_everything_it_started() -> None:
    folder = interrupted_at(
        "kubernetes:helm.sh/v3:Release rehearsal-kyverno-release", "--no-node", log="kyverno.log"
    )
    assert processes_with(str(folder)) == []
    rehearsal("down", folder=folder)


@pytest.mark.parametrize(
    ("number", "log"),
    [
        pytest.param(signal.SIGINT, "etcd.log", id="Ctrl-C at the first part"),
        pytest.param(signal.SIGINT, "volcengine.log", id="Ctrl-C at a late part"),
        pytest.param(signal.SIGTERM, "kwok.log", id="SIGTERM"),
    ],
)
def test_an_up_that_is_interrupted_leaves_nothing(number: signal.Signals, log: str) -> None:
    folder = up_interrupted_at("starting Kubernetes", "--no-node", log=log, number=number)
    assert processes_with(str(folder)) == []
    assert not folder.exists()
