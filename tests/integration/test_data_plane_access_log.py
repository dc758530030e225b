"""The access log: one line a request, whatever the request holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from rehearsal.cloud.registries.access_log import (
    AccessLog,
    AccessRecord,
    Cache,
    parse_line,
    read_log,
)
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.faults import FaultState
from rehearsal.cloud.registries.gate import AccessLevel, Gate
from rehearsal.cloud.registries.login import AuthMode
from rehearsal.cloud.registries.recorder import UpstreamRecorder
from rehearsal.cloud.registries.serving import Listener

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


class Answering:
    """A registry that lets everyone in to `library`."""

    domain = "mirror.example"
    upstream = "docker.io"
    username = "user"
    password: str | None = None
    reachable = True

    def access_level(self, namespace: str) -> AccessLevel | None:
        return "Public" if namespace == "library" else None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/v2/library/nginx/manifests/latest", 200, id="content"),
        pytest.param("HEAD", "/v2/library/nginx/manifests/latest", 200, id="head"),
        pytest.param("GET", "/v2/", 401, id="refusal"),
    ],
)
async def test_whoever_has_an_answer_finds_it_in_the_log(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async def cache(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"manifest")(scope, receive, send)

    log = AccessLog(tmp_path / "access.log")
    recorder = UpstreamRecorder("https://upstream.invalid", Authority.create(tmp_path / "ca"))
    async with Listener(cache) as listener:
        gate = Gate(
            Answering(),
            cache_url=f"http://{listener.host}:{listener.port}",
            recorder=recorder,
            log=log,
            mode=AuthMode.BOTH,
            faults=FaultState(),
        )
        logged: list[list[int]] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_: Message) -> None:
            logged.append([each.status for each in read_log(log.path)])

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
        }
        await gate(scope, receive, send)
        await gate.close()
        await recorder.close()
    assert logged[-2:] == [[status], [status]]
    assert len(read_log(log.path)) == 1
