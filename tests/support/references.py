"""Image references to test the policies with: the parser's own, found ones, and invented ones."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.policy import DOCKER_HUB_HOSTS
from components.types import DOCKER_HUB
from rehearsal.parts import build as parts
from rehearsal.progress import Progress

WILD = Path(__file__).resolve().parents[1] / "data" / "images-in-the-wild.txt"

_HEX = "0123456789abcdef"
HOSTS = (*DOCKER_HUB_HOSTS, "ghcr.io", "quay.io")
"""The hosts of registries that have a proxy."""
_OTHER_HOSTS = (
    "hub.docker.com", "registry-2.docker.io", "docker", "localhost", "localhost:5000", "Localhost",
    "LOCALHOST", "localhost.", "host:5000", "host:port", "host:", "gcr.io", "registry.k8s.io",
    "127.0.0.1", "127.0.0.1:5000", "[::1]", "[::1]:5000", "[fe80::1%eth0]:5000", "example",
    "Example", "a.b", "a_b.c", "-a.b", "a-.b", "xn--n3h.com", "bücher.example",
    "dockerhub-proxy.example.com", "dockerhub-proxy.example.com/library",
)  # fmt: skip
_NEAR_MISSES = (
    "{}.evil.example", "x{}", "{}x", "{}:443", "{}:", "{}.", ".{}", "{}/", "/{}", "https://{}",
    "docker.io/{}", "{}/docker.io", "{}/{}",
)  # fmt: skip
_NAMES = (
    "nginx", "library", "bitnami", "redis", "a", "ab", "a.b", "a..b", "a_b", "a__b", "a___b", "a-b",
    "a--b", "a---b", "a._b", "a-_b", ".a", "a.", "-a", "a-", "_a", "a_", "__a", "A", "aB", "Nginx",
    "0", "01", "0.1", "localhost", "docker.io", "a b", " a", "a ", "a\tb", "a\nb", "ä", "日本",
    "a:b", "a@b", "a%b", "a$b", "a{b}", "{{a}}", "{{ request.object.metadata.name }}", "${a}",
    "$(a)", "a'b", 'a"b', "a`b", "a\\b", "a|b", "a,b", "a;b", "a*b", "a?b", "a+b", "a~b", "a#b",
    "..", ".", "", "%2e", "a\u200bb", "a\u2028b", "\u0131", "\u017f", "\u212a", "😀",
    "library.", "library-", "x" * 127, "x" * 128, "x" * 247, "x" * 248, "x" * 255, "x" * 256,
    "f" * 64, "F" * 64, "f" * 63, "f" * 65, "0" * 64, "a." * 60 + "a",
)  # fmt: skip
_TAGS = (
    "latest", "1", "1.27", "v1.2.3-alpine", "_", "_x", "-x", ".x", "x.", "x-", "A", "X_y.Z-0", "",
    "x" * 127, "x" * 128, "x" * 129, "a b", "a/b", "a:b", "ä", "a+b", "5000", "sha256", "a\n",
)  # fmt: skip


def digests(rng: random.Random) -> Sequence[str]:
    """Digests, right and wrong ones."""

    def some(length: int, letters: str = _HEX) -> str:
        return "".join(rng.choice(letters) for _ in range(length))

    return (
        "sha256:" + some(64), "sha256:" + some(64), "sha384:" + some(96), "sha512:" + some(128),
        "sha256:" + some(63), "sha256:" + some(65), "sha256:" + some(32), "sha256:" + some(31),
        "sha256:" + some(64, _HEX.upper()), "SHA256:" + some(64), "sha512:" + some(64),
        "sha384:" + some(64), "sha1:" + some(40), "md5:" + some(32), "sha256+b64:" + some(64),
        "multihash:" + some(64), "sha256:" + some(63) + "g", "sha256" + some(64), ":" + some(64),
        "sha256:", "", "sha256:" + some(64) + "@sha256:" + some(64), "sha256:" + some(64) + ":x",
        "sha256:" + some(64) + "/x", "x", "sha224:" + some(56), "sha256_x:" + some(64),
    )  # fmt: skip


def near_misses(host: str) -> list[str]:
    """What looks like a registry's host and is not, or has more than it."""
    changed = (host.upper(), host.capitalize(), host.replace(".", "-"))
    return [*changed, *(each.replace("{}", host) for each in _NEAR_MISSES)]


_MORE_HOSTS = (*HOSTS, *(miss for host in HOSTS for miss in near_misses(host)), *_OTHER_HOSTS)


def generated(count: int, seed: int) -> list[str]:
    """Distinct references, half of them of registries with a proxy, the others near misses."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    invented: dict[str, None] = {}
    while len(invented) < count:
        invented.setdefault(_mutated(rng, _reference(rng)))
    return list(invented)


def _reference(rng: random.Random) -> str:
    good = rng.random() < 0.6
    parts = [_name(rng, good) for _ in range(rng.choices((1, 2, 3, 4), (40, 45, 12, 3))[0])]
    if rng.random() < 0.5:
        parts.insert(0, rng.choice(HOSTS if good else _MORE_HOSTS))
    tag = rng.choice(_TAGS[:6] if good else _TAGS)
    digest = rng.choice(digests(rng)[:4] if good else digests(rng))
    form = rng.randrange(4)
    return (
        "/".join(parts) + (f":{tag}" if form in {1, 3} else "") + (f"@{digest}" if form > 1 else "")
    )


def _name(rng: random.Random, good: bool) -> str:
    if not good and rng.random() < 0.5:
        return rng.choice(_NAMES)
    length = rng.choice((1, 2, 3, 5, 8, 13))
    word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(length))
    return rng.choice((word, word, rng.choice(_NAMES[:4]), f"{word}{rng.choice('._-')}x"))


def _mutated(rng: random.Random, text: str) -> str:
    """The reference, in one of ten cases with one character changed, added, dropped or doubled."""
    if rng.random() >= 0.1 or not text:
        return text
    at = rng.randrange(len(text))
    other = rng.choice("aZ0./:@-_ %\n\té\u200b")
    changes = (text[:at] + other + text[at + 1 :], text[:at] + other + text[at:])
    return rng.choice(
        (*changes, text[:at] + text[at + 1 :], text[: at + 1] + text[at:], text + "\n")
    )


def wild() -> list[str]:
    """References found in public manifests."""
    lines = WILD.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What distribution/reference reads in a reference."""

    reference: str
    error: str = ""
    """Why it is none; then nothing else is known."""
    domain: str = ""
    """The registry's host; `docker.io` where none is written."""
    path: str = ""
    """The repository, `library/` included where it is not written."""
    tag: str = ""
    digest: str = ""

    @property
    def registry(self) -> str:
        """The registry's host, the same for each of Docker Hub's."""
        return DOCKER_HUB if self.domain in DOCKER_HUB_HOSTS else self.domain

    @property
    def namespace(self) -> str:
        """The first part of the repository; empty where that has one part alone."""
        namespace, slash, _ = self.path.partition("/")
        return namespace if slash else ""

    def at(self, domain: str) -> str:
        """The same image at another registry."""
        tag, digest = self.tag and f":{self.tag}", self.digest and f"@{self.digest}"
        return f"{domain}/{self.path}{tag}{digest}"


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The program in `rehearsal/parts/go/oracle`, which asks distribution/reference itself."""

    binary: Path
    source: Path
    """The source of distribution/reference, with its test tables."""

    @classmethod
    def obtain(cls) -> Oracle:
        """Build it, as pinned by its go.mod and go.sum, unless that is done."""
        found = parts.obtain(("oracle",), Progress())
        return cls(binary=found["oracle"], source=found["distribution-reference"])

    def tables(self) -> list[str]:
        """Every string in the parser's own test tables, valid and invalid ones."""
        files = [str(self.source / f"{name}_test.go") for name in ("normalize", "reference")]
        return list(self._lines(["-tables", *files], ""))

    def read(self, references: Iterable[str]) -> list[Reading]:
        """What each reference is read as."""
        text = "".join(json.dumps(each) + "\n" for each in references)
        return [Reading(**each) for each in self._lines([], text)]

    def _lines(self, arguments: Sequence[str], text: str) -> Iterator[Any]:
        done = subprocess.run(
            [self.binary, *arguments], input=text, check=True, capture_output=True, text=True
        )
        return map(json.loads, done.stdout.splitlines())
