"""For a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inventory.answer import Answer
from inventory.formats import words

MARK = "<!-- vke-dockerhub-proxy inventory -->"
"""The first line, by which a later run finds the comment it has to replace."""
LIMIT = 60_000
"""Characters; a comment on GitHub takes 65,536."""


def write(answer: Answer) -> str:
    """The answer in GitHub's Markdown; long lists are cut, and say so."""
    text = "\n".join(_lines(answer)) + "\n"
    if len(text) <= LIMIT:
        return text
    return "\n".join(_lines(answer, whole=False)) + "\n"


def _lines(answer: Answer, *, whole: bool = True) -> Iterator[str]:
    yield MARK
    yield f"### Images and the proxies of {answer.stack.name or 'a new stack'}"
    yield ""
    yield from words.summary(answer)
    yield ""
    unserved = answer.unserved
    if unserved:
        yield f"**{words.count(len(unserved), 'use')} of namespaces that are not served:**"
        yield ""
        yield from (
            f"- `{_cell(use.location)}`: {_cell(words.to_add(use, answer))}"
            for use in unserved[:50]
        )
        if len(unserved) > 50:
            yield f"- and {len(unserved) - 50} more"
        yield ""
    if answer.proposal.yaml and not whole:
        yield "What to paste into the stack file is too long for a comment: run the inventory."
        yield ""
    elif answer.proposal.yaml:
        yield "To paste into the stack file, in place of its sections of these names:"
        yield ""
        yield "```yaml"
        yield answer.proposal.yaml.rstrip()
        yield "```"
        yield ""
    yield from (f"- {_cell(note)}" for note in answer.proposal.notes)
    yield ""
    yield from _table(
        ("namespace", "", "workloads", "images", "for example"),
        (
            (each.name, words.state(each), str(len(each.workloads)), str(len(each.images)),
             words.examples(each.images))
            for each in answer.namespaces[:100]
        ),
    )  # fmt: skip
    yield ""
    if whole:
        yield "<details><summary>What will happen to each image</summary>"
        yield ""
        yield from _table(
            ("image", "what will happen", "where"),
            (
                (image.reference, words.what_happens(prediction), words.where(uses))
                for image in answer.images
                for prediction, uses in words.fates(image)
            ),
        )
        yield ""
        yield "</details>"
    else:
        yield f"What will happen to each of {len(answer.images)} images is too long for a comment."
    if answer.mutable:
        yield ""
        yield f"Tags that say no version: {_cell(words.examples(answer.mutable, 20))}"
    if answer.missing:
        yield ""
        yield "**Not read, so this answer is partial:**"
        yield ""
        yield from (
            f"- {_cell(each.source)}: {_cell(each.what)}: {_cell(each.why)}"
            for each in answer.missing[:50]
        )
        if len(answer.missing) > 50:
            yield f"- and {len(answer.missing) - 50} more"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield "|" + " --- |" * len(names)
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    """Text that is nothing but text in Markdown, in one line."""
    for each in "\\`*_[]<>|":
        text = text.replace(each, "&#" + str(ord(each)) + ";")
    return " ".join(text.split()).replace("@", "@\u200b")
