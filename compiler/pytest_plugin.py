"""Golden graphs in pytest: a fixture, and one test per target of every ``*.optc.yaml``.

    def test_graph(golden_graph):
        run = optc.run_passes(optc.load_model("det.onnx"), "fp32")
        golden_graph(run, "det")  # golden/det.txt beside the test

``pytest --update-golden`` writes what is expected instead of comparing with it; where CI is set, it
is refused. pytest loads this file whenever optc is installed: it imports nothing that takes time
before a golden graph is asked for.
"""

from __future__ import annotations

import os
from argparse import ArgumentError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.golden import Golden, GoldenSuite
    from optc.ir import Graph
    from optc.pipeline import PassRun

_OPTION: Final = "--update-golden"
_FOLDER: Final = "optc_golden_folder"
_COLLECT: Final = "optc_collect"
_RECIPES: Final = ".optc.yaml"
_OURS: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of the ini file."""
    parser.addini(
        _FOLDER, "folder of the golden graphs of tests, relative to their module", default="golden"
    )
    parser.addini(
        _COLLECT,
        f"whether each *{_RECIPES} gives one test per target",
        type="bool",
        default=True,
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Iterator[None]:
    """Add ``--update-golden``, after a project that has an option of this name could add its own.

    The two mean the same then.
    """
    yield
    with suppress(ValueError, ArgumentError):  # of older and of newer versions of pytest
        parser.getgroup("optc", "golden graphs of optc").addoption(
            _OPTION,
            action="store_true",
            default=False,
            help="write golden graphs and other expected files instead of comparing with them",
        )
        early_config.stash[_OURS] = True


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to write golden graphs in CI, where nobody looks at what changed."""
    asked = config.getoption(_OPTION, default=False)
    if asked and os.environ.get("CI") and config.stash.get(_OURS, False):
        raise pytest.UsageError(f"{_OPTION} is refused in CI: it would hide every difference")


def _updates(config: pytest.Config) -> bool:
    return bool(config.getoption(_OPTION, default=False)) and not os.environ.get("CI")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether expected files are written in this run instead of compared with."""
    return _updates(request.config)


class GoldenGraph:
    """Compares graphs with golden ones; the fixture `golden_graph` gives one to a test."""

    def __init__(self, folder: Path, name: str, *, update: bool) -> None:
        self._folder = folder
        self._name = name
        self._update = update

    def __call__(
        self,
        subject: Graph | PassRun | str | os.PathLike[str],
        name: str | os.PathLike[str] | None = None,
        *,
        weights: bool = True,
    ) -> None:
        """Compare a graph with the golden one, or write it with ``--update-golden``.

        Args:
            subject: a graph, the result of `optc.run_passes`, or the path of an ONNX model.
            name: what the golden graph is called, the name of the test if left out; or its path.
            weights: whether the contents of weights are part of it. Without them, a retrained
                model with the same graph is the same.
        """
        from optc.files import write_text
        from optc.golden import compare_with, golden_text

        __tracebackhide__ = True
        path = self._path(name)
        graph = _load(subject)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = golden_text(graph, weights=weights, like=old)
            if text != old:
                write_text(path, text)
            return
        if not old:
            pytest.fail(f"{path} is missing: write it with pytest {_OPTION}", pytrace=False)
        found = compare_with(old, graph, structure=not weights, location=str(path))
        if not found.is_empty:
            pytest.fail(_failure(path, found.render()), pytrace=False)

    def _path(self, name: str | os.PathLike[str] | None) -> Path:
        if isinstance(name, os.PathLike):
            return Path(name)
        return self._folder / f"{_file_name(name or self._name)}.txt"


@pytest.fixture
def golden_graph(request: pytest.FixtureRequest) -> GoldenGraph:
    """Compares a graph with the golden one of a name: ``golden_graph(subject, name)``."""
    folder = request.path.parent / str(request.config.getini(_FOLDER))
    return GoldenGraph(folder, request.node.name, update=_updates(request.config))


def _load(subject: Graph | PassRun | str | os.PathLike[str]) -> Graph | PassRun:
    if not isinstance(subject, str | os.PathLike):
        return subject
    from optc.frontend.onnx import load_model

    return load_model(Path(subject))


def _file_name(name: str) -> str:
    """A name with what file names cannot have, such as the brackets of parameters, replaced."""
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in name).strip("-")


def _failure(path: Path, difference: str) -> str:
    return (
        f"the graph differs from {path}\n\n{difference}\n"
        f"if this is as it should be: pytest {_OPTION}, and review the text"
    )


# ---- recipes -----------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> RecipeFile | None:
    """Collect a recipe when its name says that it has golden graphs."""
    if not file_path.name.endswith(_RECIPES) or not parent.config.getini(_COLLECT):
        return None
    return RecipeFile.from_parent(parent, path=file_path)


class RecipeFile(pytest.File):
    """A recipe: one test per target."""

    def collect(self) -> Iterator[pytest.Item]:
        """The tests; a recipe that does not validate is an error of collection."""
        from optc.errors import OptcError
        from optc.golden import GoldenSuite

        try:
            suite = GoldenSuite.of(self.path)
        except OptcError as error:
            raise self.CollectError(str(error)) from error
        for target in suite.targets:
            yield GoldenItem.from_parent(self, name=target, suite=suite)
        for path in suite.stale():
            yield StaleItem.from_parent(self, name=f"stale-{path.stem}", suite=suite)


class RecipeItem(pytest.Item):
    """A test about one golden graph of a recipe."""

    def __init__(self, *, suite: GoldenSuite, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.suite = suite

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """What pytest calls it in reports."""
        return self.path, None, f"golden graph: {self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        """The difference or the error without a traceback; a bug with one."""
        from optc.errors import InternalError, OptcError

        if isinstance(excinfo.value, _Differs):
            return str(excinfo.value)
        if isinstance(excinfo.value, OptcError) and not isinstance(excinfo.value, InternalError):
            return f"error: {excinfo.value}"
        return str(super().repr_failure(excinfo))


class _Differs(Exception):  # noqa: N818 - the failure of a test
    """The graph is not the golden one; the text says how."""


class GoldenItem(RecipeItem):
    """Compares the graph of one target, or writes it with ``--update-golden``."""

    def runtest(self) -> None:
        """Run the passes, then compare or write."""
        if _updates(self.config):
            self.suite.update(self.name)
            return
        found = self.suite.check(self.name)
        if not found.is_equal:
            raise _Differs(_reason(found))


def _reason(found: Golden) -> str:
    if found.difference is None:
        return f"{found.path} is missing: write it with pytest {_OPTION}"
    return _failure(found.path, found.difference.render())


class StaleItem(RecipeItem):
    """A golden graph of a target that the recipe does not have."""

    def runtest(self) -> None:
        """Fail, or remove it with ``--update-golden``."""
        left = self.suite.stale()
        if _updates(self.config):
            tuple(self.suite.remove_stale())
        elif left:
            names = ", ".join(str(path) for path in left)
            raise _Differs(f"the recipe has no such target: {names}; pytest {_OPTION} removes it")
