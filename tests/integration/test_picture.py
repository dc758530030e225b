"""The README's picture, as a browser draws it with common fonts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rehearsal.locations import CHECKOUT

if TYPE_CHECKING:
    from tests.support.browser import Browser

pytest_plugins = ("tests.support.browser",)

FONTS = ("DejaVu Sans", "Liberation Sans", "sans-serif")
BOX = '<rect class="box" x="10" y="10" width="100" height="60"/>'
FAULTY = {
    "leaves its box": '<text x="15" y="40">' + "wide " * 20 + "</text>",
    "leaves the picture": '<text x="150" y="90">' + "wide " * 20 + "</text>",
    "lies on": '<text x="15" y="40">one</text><text x="20" y="42">other</text>',
    "crosses a box": '<path class="arrow" d="M5 5 L100 60"/>',
    "crosses on": '<path class="arrow" d="M120 90 H190"/><text x="140" y="95">on it</text>',
}
"""Pictures with a fault, by what is said of it."""

MEASURE = """[...document.querySelectorAll("svg")].map((picture) => {
  const faults = [];
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
})"""
"""Of each picture: texts that leave their box or the picture or lie on others, and arrows that
cross either."""


@pytest.fixture(scope="module")
def faults(browser: Browser) -> dict[str, list[str]]:
    """What is wrong with the README's picture in each font, and with each faulty picture."""
    picture = (CHECKOUT / "docs" / "parts.svg").read_text(encoding="utf-8")
    pictures = {font: (font, picture) for font in FONTS}
    for fault, content in FAULTY.items():
        pictures[fault] = (FONTS[0], f'<svg viewBox="0 0 200 100">{BOX}{content}</svg>')
    page = "".join(
        f"<style>#p{at} text {{font-family: '{font}' !important}}</style><p id=p{at}>{svg}</p>"
        for at, (font, svg) in enumerate(pictures.values())
    )
    found = browser.evaluate(f"<!doctype html>{page}", MEASURE)
    return dict(zip(pictures, found, strict=True))


@pytest.mark.parametrize("font", FONTS)
def test_texts_stay_in_their_boxes_and_arrows_cross_none(
    faults: dict[str, list[str]], font: str
) -> None:
    assert faults[font] == []


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_of_a_picture_is_seen(faults: dict[str, list[str]], fault: str) -> None:
    assert any(fault in each for each in faults[fault]), faults[fault]


def test_the_fonts_are_not_one_and_the_same(browser: Browser) -> None:
    page = "".join(f"<span style=\"font-family: '{font}'\">width</span>" for font in FONTS[:2])
    spans = "[...document.querySelectorAll('span')]"
    widths = browser.evaluate(page, f"{spans}.map((each) => each.getBoundingClientRect().width)")
    assert len(set(widths)) == 2
