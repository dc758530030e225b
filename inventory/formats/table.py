"""For people at a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from inventory.answer import Answer
from inventory.formats import words

_COLOURS = {"served": "green", "missing: to add": "bold red", "not served": "yellow"}


def write(answer: Answer, console: Console) -> None:
    """Print the answer."""
    console.print(_group(answer))


def _group(answer: Answer) -> Group:
    parts: list[RenderableType] = [Text("\n".join(words.summary(answer))), Text()]
    parts += [_namespaces(answer), Text(), _images(answer)]
    if answer.mutable:
        parts += [
            Text(),
            Text("Tags that say no version", style="bold"),
            Text(", ".join(answer.mutable)),
        ]
    if answer.proposal.yaml:
        parts += [
            Text(),
            Text("To paste into the stack file, in place of its sections of these names", "bold"),
            Syntax(answer.proposal.yaml, "yaml", background_color="default", word_wrap=True),
        ]
    parts += [Text(f"- {note}") for note in answer.proposal.notes]
    if answer.missing:
        parts += [Text(), Text("Not read, so this answer is partial", style="bold red")]
        parts += [Text(f"- {each.source}: {each.what}: {each.why}") for each in answer.missing]
    return Group(*parts)


def _namespaces(answer: Answer) -> Table:
    table = Table(title="Namespaces in use", title_justify="left", title_style="bold")
    for name in ("namespace", "", "workloads", "Pods", "images", "for example"):
        right = name in {"workloads", "Pods", "images"}
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for each in answer.namespaces:
        state = words.state(each)
        table.add_row(
            each.name,
            Text(state, _COLOURS[state]),
            str(len(each.workloads)),
            str(each.pods or ""),
            str(len(each.images)),
            words.examples(each.images),
        )
    return table


def _images(answer: Answer) -> Table:
    table = Table(title="What will happen", title_justify="left", title_style="bold")
    for name in ("image", "what will happen", "where"):
        table.add_column(name, overflow="fold")
    for image in answer.images:
        for prediction, uses in words.fates(image):
            table.add_row(image.reference, words.what_happens(prediction), words.where(uses))
    return table
