"""The access log of a proxy registry: one line a request, written here and read back by proofs.

A line (broken here for width) is:

    2026-11-24T09:12:03.123Z GET /v2/library/nginx/manifests/latest 200 user=rehearsal@2100000001
    cache=miss upstream=HEAD,GET time=12ms agent="crane/v0.22.1"
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Cache(StrEnum):
    """Where the content of an answer came from."""

    HIT = "hit"
    """The proxy's own storage; upstream was at most asked (HEAD) where a tag points now."""
    MISS = "miss"
    """Fetched from upstream while the request was answered."""
    NONE = "-"
    """Nowhere: refused, an error, or not a request for content."""


@dataclass(frozen=True, kw_only=True)
class AccessRecord:
    """One request as a proxy registry saw it."""

    time: dt.datetime
    """When the request came, UTC."""
    method: str
    path: str
    """Percent-encoded, with the query."""
    status: int
    """The HTTP status of the answer; 0 when the connection was dropped unanswered."""
    user: str | None
    """The login that was accepted, None for an anonymous request."""
    agent: str
    """The User-Agent header."""
    cache: Cache
    upstream: tuple[str, ...]
    """The methods of the requests that upstream got for it, in order."""
    milliseconds: int
    """From request to the end of the answer."""

    def line(self) -> str:
        """Return the record as its log line, without a line end."""
        time = self.time.astimezone(dt.UTC).isoformat(timespec="milliseconds")
        return (
            f"{time.replace('+00:00', 'Z')} {self.method} {self.path} {self.status} "
            f"user={self.user or '-'} cache={self.cache} "
            f"upstream={','.join(self.upstream) or '-'} time={self.milliseconds}ms "
            f"agent={json.dumps(self.agent)}"
        )


_LINE = re.compile(
    r"(?P<time>\S+) (?P<method>\S+) (?P<path>\S+) (?P<status>\d+) user=(?P<user>\S+) "
    r"cache=(?P<cache>\S+) upstream=(?P<upstream>\S+) time=(?P<ms>\d+)ms agent=(?P<agent>\".*\")"
)


def parse_line(line: str) -> AccessRecord:
    """Read a log line back. Raises ValueError for anything else."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"not an access log line: {line!r}")
    return AccessRecord(
        time=dt.datetime.fromisoformat(found["time"]),
        method=found["method"],
        path=found["path"],
        status=int(found["status"]),
        user=None if found["user"] == "-" else found["user"],
        agent=json.loads(found["agent"]),
        cache=Cache(found["cache"]),
        upstream=() if found["upstream"] == "-" else tuple(found["upstream"].split(",")),
        milliseconds=int(found["ms"]),
    )


def log_file(work_dir: Path, domain: str) -> Path:
    """Where the data plane that works in a folder keeps the access log of a proxy registry."""
    return work_dir / domain / "access.log"


def read_log(path: Path) -> list[AccessRecord]:
    """Read a whole access log; an absent file is an empty log."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [parse_line(line) for line in lines]


class AccessLog:
    """Appends records to a file, each in one write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    @property
    def path(self) -> Path:
        """The log file."""
        return self._path

    def append(self, record: AccessRecord) -> None:
        """Write one record."""
        with self._path.open("a") as file:
            file.write(record.line() + "\n")
