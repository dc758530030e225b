"""The README's picture, as a browser draws it with common fonts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.recorder import ROOT

if TYPE_CHECKING:
    from tests.support.browser import Browser

pytest_plugins = ("tests.support.browser",)

FONTS = ("DejaVu Sans", "Liberation Sans", "sans-serif")
PICTURE = (ROOT / "docs" / "parts.svg").read_text(encoding="utf-8")

FAULTS = """(() => {
  const picture = document.querySelector("svg"), faults = [];
  const all = (selector) => [...picture.querySelectorAll(selector)];
  const edges = (element) => {
    const {x, y, width, height} = element.getBBox();
    return {left: x, top: y, right: x + width, bottom: y + height};
  };
  const meet = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const inside = (a, b, space) => a.left >= b.left + space && a.right <= b.right - space
    && a.top >= b.top + space && a.bottom <= b.bottom - space;
  const boxes = all("rect.box").map(edges);
  const texts = all("text").map((each) => ({name: each.textContent, ...edges(each)}));
  const {x, y, width, height} = picture.viewBox.baseVal;
  const paper = {left: x, top: y, right: x + width, bottom: y + height};
  for (const text of texts) {
    if (!inside(text, paper, 4)) faults.push(`${text.name}: leaves the picture`);
    for (const box of boxes)
      if (meet(text, box) && !inside(text, box, 4)) faults.push(`${text.name}: leaves its box`);
    for (const other of texts)
      if (other !== text && meet(text, other)) faults.push(`${text.name}: lies on ${other.name}`);
  }
  for (const arrow of all("path.arrow")) {
    const name = `arrow ${arrow.getAttribute("d")}`;
    const crossed = new Set();
    for (let at = 0; at <= arrow.getTotalLength(); at += 1) {
      const {x, y} = arrow.getPointAtLength(at);
      const point = {left: x, right: x, top: y, bottom: y};
      if (boxes.some((box) => inside(point, box, 1))) crossed.add("a box");
      for (const text of texts) if (meet(point, text)) crossed.add(text.name);
    }
    for (const each of crossed) faults.push(`${name}: crosses ${each}`);
  }
  return faults;
})()"""
"""Texts that leave their box or the picture or lie on others, and arrows that cross either."""


def faults(browser: Browser, picture: str, font: str) -> list[Any]:
    page = f"<!doctype html><style>svg text {{font-family: '{font}' !important}}</style>{picture}"
    found = browser.evaluate(page, FAULTS)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("font", FONTS)
def test_texts_stay_in_their_boxes_and_arrows_cross_none(browser: Browser, font: str) -> None:
    assert faults(browser, PICTURE, font) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('<text x="15" y="40">' + "wide " * 20 + "</text>", "leaves its box"),
        ('<text x="150" y="90">' + "wide " * 20 + "</text>", "leaves the picture"),
        ('<text x="15" y="40">one</text><text x="20" y="42">other</text>', "lies on"),
        ('<path class="arrow" d="M5 5 L100 60"/>', "crosses a box"),
        ('<path class="arrow" d="M120 90 H190"/><text x="140" y="95">on it</text>', "crosses on"),
    ],
    ids=["out of its box", "out of the picture", "on another text", "through a box", "on a label"],
)
def test_a_fault_of_a_picture_is_seen(browser: Browser, content: str, fault: str) -> None:
    box = '<rect class="box" x="10" y="10" width="100" height="60"/>'
    found = faults(browser, f'<svg viewBox="0 0 200 100">{box}{content}</svg>', FONTS[0])
    assert any(fault in each for each in found), found


def test_the_fonts_are_not_one_and_the_same(browser: Browser) -> None:
    width = "document.querySelector('span').getBoundingClientRect().width"
    widths = {
        browser.evaluate(f"<span style=\"font-family: '{font}'\">width of text</span>", width)
        for font in FONTS[:2]
    }
    assert len(widths) == 2
