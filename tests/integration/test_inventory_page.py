"""The inventory's page, as a browser draws it with common fonts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from inventory.answer import answer
from inventory.formats import page
from inventory.stack import load_stack
from inventory.workloads import Found, Image, Missing, Place, Workload

if TYPE_CHECKING:
    from tests.support.browser import Browser

pytest_plugins = ("tests.support.browser",)

FONTS = ("DejaVu Sans", "Liberation Sans", "sans-serif")

FAULTS = """(() => {
  const picture = document.querySelector("#picture"), faults = [];
  const edges = (element) => element.getBoundingClientRect();
  const paper = edges(picture);
  const bars = [...picture.querySelectorAll(".bar")];
  const widths = bars.map((bar) => bar.querySelector("rect").getBBox().width);
  if (widths.some((width, at) => at && width > widths[at - 1])) faults.push("not by use");
  if (widths[0] < picture.viewBox.baseVal.width / 3) faults.push("the longest bar is short");
  for (const text of picture.querySelectorAll("text")) {
    const a = edges(text);
    if (a.left < paper.left || a.right > paper.right || a.bottom > paper.bottom + 1)
      faults.push(`${text.textContent}: leaves the picture`);
    for (const bar of picture.querySelectorAll("rect")) {
      const b = edges(bar);
      if (a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom)
        faults.push(`${text.textContent}: lies on a bar`);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
  if (performance.getEntriesByType("resource").length) faults.push("asks for something else");
  return faults;
})()"""
"""Bars out of order, texts that leave the picture or lie on bars, and what is not in the page."""

READ = """(() => ({
  colours: [...new Set([...document.querySelectorAll(".bar rect")].map(
    (each) => getComputedStyle(each).fill))].length,
  bars: document.querySelectorAll(".bar").length,
  rows: document.querySelectorAll("#namespaces tbody tr").length,
  images: document.querySelectorAll("#images tbody tr").length,
  missing: document.querySelector("#missing").textContent,
  proposal: document.querySelector("#proposal").textContent,
  scripts: [...document.scripts].length,
}))()"""


@pytest.fixture(scope="module")
def written() -> str:
    names = ["nginx", "grafana/grafana", "registry.example.com/prometheus/node-exporter:v1"]
    names += [f"ghcr.io/{'m' * 60}-{at}/x" for at in range(3)]
    names += [f"<script>alert({at})</script>" for at in range(2)]
    names += [f"namespace-{at}/x" for at in range(60)]
    workloads = [
        Workload(
            Place("m.yaml", True, "default", "Deployment", f"d{at}"),
            {},
            False,
            tuple(Image(name, f"c{n}") for n, name in enumerate(names[: len(names) - at])),
        )
        for at in range(len(names))
    ]
    missing = [Missing(source="<b>prod</b>", what="pods", why="403 <script>alert(1)</script>")]
    found = Found(workloads=workloads, missing=missing)
    found.sources["m.yaml"] = len(workloads)
    return page.write(answer(found, load_stack("dev")))


def open_to_scripts(written: str) -> str:
    """The page without its own rule against scripts, of which the test's is one."""
    rule = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert rule.search(written)
    return rule.sub("", written)


@pytest.mark.parametrize("font", FONTS)
def test_the_picture_is_whole_and_the_page_needs_nothing_else(
    browser: Browser, written: str, font: str
) -> None:
    style = f"<style>svg text {{font-family: '{font}' !important}}</style>"
    assert browser.evaluate(open_to_scripts(written) + style, FAULTS) == []


def test_the_page_shows_all_that_was_found(browser: Browser, written: str) -> None:
    read = browser.evaluate(open_to_scripts(written), READ)
    assert read["bars"] == page.BARS
    assert read["rows"] == 66
    assert read["images"] == 68
    assert read["colours"] == 3
    assert "403 <script>alert(1)</script>" in read["missing"]
    assert "- {name: grafana, access: Public}" in read["proposal"]
    assert read["scripts"] == 1, "the test's own"
