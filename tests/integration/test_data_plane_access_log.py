"""The access log: one line a request, whatever the request holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from rehearsal.data_plane.access_log import (
    AccessLog,
    AccessRecord,
    Cache,
    parse_line,
    read_log,
)

RECORD = AccessRecord(
    time=dt.datetime(2026, 11, 24, 9, 12, 3, 123000, tzinfo=dt.UTC),
    method="GET",
    path="/v2/library/nginx/manifests/latest",
    status=200,
    user="rehearsal@2100000001",
    agent="crane/v0.22.1 go-containerregistry/v0.22.1",
    cache=Cache.MISS,
    upstream=("HEAD", "GET"),
    milliseconds=12,
)


def test_a_line_reads_well() -> None:
    assert RECORD.line() == (
        "2026-11-24T09:12:03.123Z GET /v2/library/nginx/manifests/latest 200 "
        "user=rehearsal@2100000001 cache=miss upstream=HEAD,GET time=12ms "
        'agent="crane/v0.22.1 go-containerregistry/v0.22.1"'
    )


@pytest.mark.parametrize(
    "agent", ["", "a\nb 200", 'quo"te', "ünï"], ids=["empty", "line-end", "quote", "not-ascii"]
)
def test_a_record_survives_its_line(tmp_path: Path, agent: str) -> None:
    log = AccessLog(tmp_path / "access.log")
    anonymous = AccessRecord(**{**vars(RECORD), "user": None, "upstream": (), "agent": agent})
    log.append(RECORD)
    log.append(anonymous)
    assert read_log(log.path) == [RECORD, anonymous]


def test_another_line_is_refused() -> None:
    with pytest.raises(ValueError, match="not an access log line"):
        parse_line("GET / 200")


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none") == []
