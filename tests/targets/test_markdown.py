"""The reference page that is written from the descriptors."""

from __future__ import annotations

from optc.targets import runtime_names, target_names
from optc.targets.loading import shipped_kernels
from optc.targets.markdown import render_markdown

PAGE = render_markdown()


def test_the_page_names_every_target_runtime_and_route() -> None:
    assert all(f"| `{name}` |" in PAGE for name in target_names())
    for name in runtime_names():
        for route in shipped_kernels(name).routes:
            assert f"| {route.spelling} |" in PAGE


def test_unknown_numbers_are_visible() -> None:
    assert "| bf16_avx512 |  |  | 128 |  | unknown | unknown |" in PAGE.splitlines()


def test_tables_have_as_many_cells_as_columns() -> None:
    width = 0
    for line in PAGE.splitlines():
        cells = line.replace("\\|", "").count("|") if line.startswith("|") else 0
        assert cells == width or not (width and cells)
        width = cells


def test_the_page_is_the_same_every_time() -> None:
    assert render_markdown() == PAGE
    assert PAGE.endswith("\n")
    assert not PAGE.endswith("\n\n")
