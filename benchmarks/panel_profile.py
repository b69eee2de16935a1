"""Where the time of a variant goes: by type of operation, in the runtime's own words.

ONNX Runtime's profiler and OpenVINO's counters are those of the operations that are executed, after
the runtime's own fusions; each counts with its fastest run. Both cost time themselves: read shares,
and differences between variants.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from panel_measure import OWN, SOURCE, request_for
from panel_variants import make_optc, make_peer

from optc.errors import OptcError
from optc.evidence.bench_inputs import choose_inputs, read_facts
from optc.evidence.subject import Subject, find_subject
from optc.launch.engines import OpenVinoEngine, open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from panel import Settings

    from optc.numerics.values import Feeds

Times = dict[str, tuple[int, float]]
"""By type of operation: how many there are, and their seconds in a run."""

_RUNS = 12
_EVENT = "_kernel_time"


def profile_model(model: Path, data: Path | None, settings: Settings, tools: list[str]) -> None:
    """Print the time of each type of operation, for the source and some variants, by runtime.

    Args:
        model: the source model.
        data: its inputs; None for seeded ones.
        settings: runtimes, peers and target.
        tools: variants beside the source; empty: optc.
    """
    with tempfile.TemporaryDirectory(prefix="optc-panel-") as place:
        for runtime in settings.runtimes:
            folder = Path(place) / runtime
            folder.mkdir()
            source = find_subject(model, runtime=runtime, label=SOURCE)
            request = request_for(model, data)
            inputs = choose_inputs([source], [read_facts(source)], request)
            made = [_make(tool, model, folder, runtime, settings) for tool in tools or [OWN]]
            found = profile([source, *filter(None, made)], inputs.feeds[0])
            print(f"\n## {model.stem}, {runtime}: microseconds of a run (operations)\n")
            print("\n".join(table(found)), flush=True)


def _make(tool: str, model: Path, folder: Path, runtime: str, settings: Settings) -> Subject | None:
    """A variant; None, with a line that says why, when there is none."""
    made = (
        make_optc(model, folder, runtime, settings.target, settings.limit)
        if tool == "optc"
        else make_peer(tool, model, folder, settings.peers, settings.limit)
    )
    if made is None or made.run.error:
        print(f"{tool}: {made.run.error if made else 'does not know such a model'}")
        return None
    try:
        return find_subject(made.place, runtime=runtime, label=tool)
    except OptcError as error:
        print(f"{tool}: {error.message}")
        return None


class _Profiler(Protocol):
    """A variant that is ready to run, and counts."""

    def run(self, feeds: Feeds) -> None:
        """Run once."""

    def times(self) -> Times:
        """Of all runs; ends it."""


class _OnnxRuntime:
    """A variant with ONNX Runtime's profiler."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        prefix = str(folder / f"profile-{subject.label}")
        asked = {"enable_profiling": 1, "profile_file_prefix": prefix}
        session = {**subject.options.session_options, **asked}
        options = subject.options.model_copy(update={"session_options": session})
        self._engine = open_engine(subject.model, options)

    def run(self, feeds: Feeds) -> None:
        """Run once."""
        self._engine.run(feeds)

    def times(self) -> Times:
        """Of all runs."""
        events = json.loads(Path(self._engine.native.end_profiling()).read_text("utf-8"))
        fastest: dict[tuple[str, str], float] = {}
        for event in events:
            name = str(event.get("name", ""))
            if event.get("cat") == "Node" and name.endswith(_EVENT):
                key = (str(event["args"]["op_name"]), name)
                fastest[key] = min(fastest.get(key, math.inf), event["dur"] * 1e-6)
        return _by_type(fastest)


class _OpenVino:
    """A variant with OpenVINO's counters."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        properties = {**subject.options.properties, "PERF_COUNT": "YES"}
        options = subject.options.model_copy(update={"properties": properties})
        self._engine = OpenVinoEngine(subject.model, options)
        self._fastest: dict[str, float] = {}

    def run(self, feeds: Feeds) -> None:
        """Run once."""
        self._engine.run(feeds)
        for name, seconds in self._engine.profile().items():
            self._fastest[name] = min(self._fastest.get(name, math.inf), seconds)

    def times(self) -> Times:
        """Of all runs."""
        kinds = {
            node.get_friendly_name(): str(node.get_rt_info()["layerType"].value)
            for node in self._engine.native.get_runtime_model().get_ordered_ops()
        }
        executed = {n: seconds for n, seconds in self._fastest.items() if seconds}
        return _by_type({(kinds.get(name, "?"), name): s for name, s in executed.items()})


_PROFILERS: dict[str, Callable[[Subject, Path], _Profiler]] = {
    "onnxruntime": _OnnxRuntime,
    "openvino": _OpenVino,
}


def profile(subjects: Sequence[Subject], feeds: Feeds) -> dict[str, Times]:
    """Times of variants that take turns, by label."""
    with tempfile.TemporaryDirectory(prefix="optc-panel-") as folder:
        opened = {s.label: _PROFILERS[s.runtime](s, Path(folder)) for s in subjects}
        for _ in range(_RUNS):
            for profiler in opened.values():
                profiler.run(feeds)
        return {label: profiler.times() for label, profiler in opened.items()}


def _by_type(fastest: Mapping[tuple[str, str], float]) -> Times:
    """Fastest runs of the operations of each type, added up; keys are type and name."""
    found: Times = {}
    for (kind, _), seconds in fastest.items():
        count, others = found.get(kind, (0, 0.0))
        found[kind] = (count + 1, others + seconds)
    return found


def table(found: Mapping[str, Times]) -> list[str]:
    """A row for each type of operation, those of most time first, and their sum."""
    kinds = {kind for times in found.values() for kind in times}
    order = sorted(kinds, key=lambda kind: -max(t.get(kind, (0, 0.0))[1] for t in found.values()))
    lines = ["| type | " + " | ".join(found) + " |", "|---" * (1 + len(found)) + "|"]
    for kind in order:
        cells = [_cell(*times[kind]) if kind in times else "" for times in found.values()]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    sums = [
        _cell(sum(n for n, _ in t.values()), sum(s for _, s in t.values())) for t in found.values()
    ]
    lines.append("| all | " + " | ".join(sums) + " |")
    return lines


def _cell(count: int, seconds: float) -> str:
    return f"{seconds * 1e6:.1f} ({count})"
