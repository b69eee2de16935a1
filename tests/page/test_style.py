"""Contrast of the page's colours, light and dark (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

import optc.page

SHEET = (files(optc.page) / "assets" / "page.css").read_text(encoding="utf-8")
SCHEMES = re.findall(r":root[^{]* \{(.*?)\}", SHEET, re.DOTALL)


def colors(index: int) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", SCHEMES[index]))


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", range(2))
def test_text_can_be_read(scheme: int) -> None:
    found = colors(scheme)
    pairs = [(text, on) for text in ("ink", "soft", "link") for on in ("ground", "panel", "node")]
    pairs += [("ink", "nest"), ("soft", "nest"), ("warn", "warn-ground")]
    low = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in pairs}
    assert {pair: value for pair, value in low.items() if value < 4.5} == {}


@pytest.mark.parametrize("scheme", range(2))
def test_marks_can_be_told_from_the_ground(scheme: int) -> None:
    found = colors(scheme)
    marks = ("int8", "bf16", "fp32", "other", "pick", "changed")
    low = {mark: contrast(found[mark], found["node"]) for mark in marks}
    assert {mark: value for mark, value in low.items() if value < 3} == {}


def test_every_scheme_has_every_color() -> None:
    assert len(SCHEMES) == 2
    assert colors(0).keys() == colors(1).keys()
