"""One HTML page that needs nothing else, with a picture of the namespaces by use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2

from inventory.answer import Answer
from inventory.formats import words

BARS: Final = 40
"""Namespaces in the picture; the table below it has all."""


def write(answer: Answer) -> str:
    """The answer as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    most = max((len(each.workloads) for each in answer.namespaces), default=1)
    return template.render(answer=answer, words=words, bars=BARS, most=most) + "\n"
