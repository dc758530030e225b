"""Image references; tests/conformance holds them to the parser containerd uses."""

from __future__ import annotations

import pytest

from inventory.reference import InvalidReferenceError, Reference, parse

SHA256 = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("nginx", Reference("docker.io", "library/nginx", None, None)),
        ("docker.io/nginx:1", Reference("docker.io", "library/nginx", "1", None)),
        ("index.docker.io/a/b", Reference("docker.io", "a/b", None, None)),
        ("registry-1.docker.io/a", Reference("registry-1.docker.io", "a", None, None)),
        (f"a/b:1@{SHA256}", Reference("docker.io", "a/b", "1", SHA256)),
        ("localhost/a", Reference("localhost", "a", None, None)),
        ("[::1]:5000/a", Reference("[::1]:5000", "a", None, None)),
        ("Docker.io/a/b", Reference("Docker.io", "a/b", None, None)),
        ("a_b.c/d", Reference("", "a_b.c/d", None, None)),
    ],
)
def test_a_reference_is_parsed_with_what_was_left_out_put_in(text: str, parsed: Reference) -> None:
    assert parse(text) == parsed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NGINX", "lower case"),
        ("nginx\n", "form"),
        ("", "form"),
        ("a:b:c", "form"),
        ("a" * 256, "255"),
        ("f" * 64, "id"),
        (f"nginx@{SHA256[:-1]}", "form"),
    ],
    ids=["upper-case", "line-end", "empty", "two-tags", "long", "image-id", "short-digest"],
)
def test_what_cannot_be_pulled_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidReferenceError, match=why):
        parse(text)


@pytest.mark.parametrize("text", ["a" * 200_000, "a-" * 100_000, "a." * 50_000 + "/", "/" * 9999])
def test_a_very_long_text_takes_no_longer_than_it_is_long(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        parse(text)
