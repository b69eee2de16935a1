"""The page as text: what stands in it, that models cannot write into it, and its bounds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from optc.page.render import page_of, render_page
from optc.page.stored import read_reports
from page.reports import HOSTILE, QUICKSTART, compiled, hostile_model, made_up, report_in

if TYPE_CHECKING:
    from pathlib import Path

MODEL = QUICKSTART / "mnist_mobilenet.onnx"


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inner: dict[int, str] = {}
        self.open = -1
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open = len(self.elements)
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open >= 0 and self.elements[self.open][0] in ("script", "style"):
            self.inner[self.open] = self.inner.get(self.open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.open = -1

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        found = enumerate(self.elements)
        return [(attrs, self.inner.get(i, "")) for i, (name, attrs) in found if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        (text,) = [text for attrs, text in self.of("script") if attrs.get("id") == "data"]
        found: dict[str, Any] = json.loads(text)
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "out"
    return compiled(MODEL, out, ["cascadelake", "sapphirerapids"])


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "report.html").read_text()


def test_the_same_report_gives_the_same_bytes(folder: Path, text: str) -> None:
    assert page_of(folder, read_reports(folder)) == text


def test_nothing_of_the_machine_is_in_it(folder: Path, text: str) -> None:
    assert str(folder.parent.parent) not in text
    assert str(QUICKSTART.parent) not in text
    assert "mnist_mobilenet.onnx" in text  # what was asked names the file


def test_it_loads_nothing_and_its_policy_names_what_stands_in_it(text: str) -> None:
    page = Page(text)
    (policy,) = [
        attrs["content"]
        for attrs, _ in page.of("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        (inline,) = [inner for attrs, inner in page.of(tag) if attrs.get("id") != "data"]
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    links = [a[k] or "" for _, a in page.elements for k in ("src", "href", "action") if k in a]
    assert len(links) > 5
    assert {re.match(r"#|data:,|\.\./\w+/report\.html$", link) is not None for link in links} == {
        True
    }
    assert not [a for _, a in page.elements if "style" in a or any(k.startswith("on") for k in a)]


def test_names_of_a_model_stay_names(tmp_path: Path) -> None:
    folder = compiled(hostile_model(tmp_path / "m.onnx"), tmp_path / "out")
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert len(page.of("script")) == 2
    assert page.of("img") == []
    assert not [a for _, a in page.elements if any(key.startswith("on") for key in a)]
    assert text.count("</script") == 2
    assert text.count("<!--") == 0
    assert set(HOSTILE) <= set(page.data["strings"])
    assert all(31 < ord(c) < 127 for c in _raw_data(text))


def _raw_data(text: str) -> str:
    return text.split('id="data">')[1].split("</script>")[0]


def test_recipe_texts_and_reasons_are_escaped() -> None:
    report = made_up(11)
    bad = HOSTILE[0]
    report["name"] = report["target"] = bad
    report["recipe"]["model"]["path"] = bad
    report["warnings"] = [bad]
    report["near_misses"] = [_miss(bad, 1)]
    report["passes"] = [_step(bad, bad)]
    report["precision"] = {bad: {bad: 3}}
    report["nodes"][0] |= {"sqnr": 3.0, "name": bad, "op": bad}
    text = render_page(
        report, advice=f"# {bad}\n\n[x](javascript:alert(1)) ![y](z) {bad}", options=bad
    )
    page = Page(text)
    assert len(page.of("script")) == 2
    assert page.of("img") == []
    links = [attrs.get("href") or "" for attrs, _ in page.of("a")]
    assert not [link for link in links if "javascript" in link]


def test_the_table_counts_every_operation(folder: Path, text: str) -> None:
    report = report_in(folder)
    foot = text.split("<tfoot>")[1].split("</tfoot>")[0]
    counts = [int(n) for n in re.findall(r">(\d+)</td>", foot)]
    operations = report["operations"]
    assert counts[:4] == [0, 0, operations["result"], 0]
    assert counts[4:] == [operations["result"], operations["source"]]
    assert f"{operations['source']} → {operations['result']}" in text


def test_both_targets_are_compared(text: str) -> None:
    caption = text.split("<caption>Predicted time")[1].split("</table>")[0]
    assert re.findall(r'href="([^"]+)"', caption) == ["../sapphirerapids/report.html"]
    assert caption.count(" saved") == 0
    assert len(re.findall(r"\d%</td>", caption)) == 2


def test_the_data_joins_both_graphs(folder: Path, text: str) -> None:
    report, data = report_in(folder), Page(text).data
    assert len(data["after"]["op"]) == len(report["nodes"])
    assert len(data["before"]["op"]) == report["operations"]["source"]
    strings = data["strings"]
    for row, sources in data["after"]["sources"].items():
        named = [strings[data["before"]["name"][s]] for s in sources if isinstance(s, int)]
        assert named == [n for n in report["nodes"][int(row)]["sources"] if n in named]
    assert None not in data["before"]["type"]  # types are inferred by the pipeline


def test_a_graph_that_is_too_large_is_left_out_and_the_page_says_so() -> None:
    text = render_page(made_up(10_001))
    data = Page(text).data
    assert (data["before"], data["after"]) == (None, None)
    assert "has 10,001 operations: more than the 10,000 that are drawn" in text
    assert len(text) < 100_000


def test_the_size_has_a_bound() -> None:
    report = made_up(10_000, name="n{}" + "x" * 5000)
    report["near_misses"] = [_miss(f"{n}" + "y" * 5000, 5000, name="z" * 5000) for n in range(100)]
    report["passes"] = [_step(f"pass{n}", "w" * 5000) for n in range(20)]
    text = render_page(report)
    # 20,000 names of 240 characters, and tables of bounded texts.
    assert len(text) < 10_000_000
    assert "and 60 more reasons" in text


def test_an_older_report_without_graphs_is_still_a_page() -> None:
    report = made_up(22)
    del report["source"], report["ends"], report["recipe"]
    for row in report["nodes"]:
        del row["inputs"], row["type"]
    text = render_page(report)
    assert "<canvas" not in text
    assert "LayerNormalization" in text


def test_without_figures_there_is_no_chart() -> None:
    assert 'id="accuracy"' not in render_page(made_up(11))


def _miss(reason: str, count: int, name: str = "layer.1") -> dict[str, Any]:
    place = {"node": name, "sources": [name], "reason": reason}
    return {"family": "idea", "reason": reason, "passes": ["p"], "places": [place] * count}


def _step(name: str, reason: str) -> dict[str, Any]:
    refusal = {"rule": name, "node": reason, "reason": reason, "near_miss": False}
    return {
        "pass": name,
        "changed": True,
        "nodes": [1, 1],
        "counts": {name: 1},
        "gain": None,
        "refusals": [refusal] * 100,
    }
