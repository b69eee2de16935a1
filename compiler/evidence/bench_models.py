"""Which models a bench measures: those that are given one by one, or what belongs to a recipe."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from optc.emit.folder import MANIFEST, file_digest
from optc.errors import ModelError, TargetError, did_you_mean, nearest
from optc.evidence.subject import Subject, find_subject
from optc.launch.options import FILE
from optc.launch.plan import Demand, demand_of
from optc.launch.settings import slices_of
from optc.prepare import prepare
from optc.targets import RUNTIME_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optc.launch.options import LaunchOptions
    from optc.recipe import Recipe

SOURCE: Final = "source"
"""Label of the source model of a recipe."""
_GRAPH_TEXT: Final = "graph.txt"
_LABELLED: Final = re.compile(r"([A-Za-z0-9_.+-]+)=(.+)", re.DOTALL)
_IN_RUNTIME: Final = re.compile(r"([A-Za-z_-]+):(.+)", re.DOTALL)
_SPINNING: Final = "session.intra_op.allow_spinning"
_HINT: Final = "INFERENCE_PRECISION_HINT"
_OF_TARGET: Final = {"target": "", "needs": (), "tile_flags": ()}


@dataclass(frozen=True)
class Entry:
    """A model to measure.

    Attributes:
        subject: the model.
        demand: cores and instances of its launch config; None for a model that has none.
        same: artefacts of further targets with the same graph, options and demand.
    """

    subject: Subject
    demand: Demand | None = None
    same: tuple[Subject, ...] = ()

    @property
    def label(self) -> str:
        """How it is called."""
        return self.subject.label


@dataclass(frozen=True)
class Chosen:
    """Models to measure.

    Attributes:
        entries: the models; the first is what ratios are against.
        recipe: the recipe they belong to; None when they were given one by one.
        caveats: what the user should know about the choice.
    """

    entries: tuple[Entry, ...]
    recipe: Recipe | None = None
    caveats: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Samples per run: the recipe's, or that of the first artefact."""
        if self.recipe is not None:
            return self.recipe.launch.batch
        subjects = (entry.subject for entry in self.entries)
        return next((s.options.batch for s in subjects if s.folder is not None), 1)


def is_recipe(place: str | Path) -> bool:
    """Whether an argument means a recipe."""
    return Path(place).suffix.lower() in (".yaml", ".yml")


def choose_models(
    places: Iterable[str | Path], *, runtimes: Sequence[str] = (), threads: int = 1
) -> Chosen:
    """Models that are given one by one.

    Args:
        places: ``[LABEL=][RUNTIME:]PATH``; text that exists as a path is one.
        runtimes: measure each model that names no runtime on each of these; empty: on its own.
        threads: threads of the runtime.

    Raises:
        OptcError: as `find_subject`.
    """
    entries = []
    for place in places:
        label, runtime, path = _parts(str(place))
        for name in (runtime,) if runtime else runtimes or (None,):
            subject = find_subject(path, runtime=name, threads=threads, label=label)
            entries.append(Entry(subject, _demand(subject)))
    return Chosen(_distinct(_alike(entries)))


def _parts(place: str) -> tuple[str | None, str | None, str]:
    """Label, runtime and path of an argument."""
    if Path(place).exists():
        return None, None, place
    label, rest = None, place
    if labelled := _LABELLED.fullmatch(place):
        label, rest = labelled[1], labelled[2]
    prefixed = _IN_RUNTIME.fullmatch(rest)
    if prefixed is None or Path(rest).exists():
        return label, None, rest
    word, path = prefixed[1], prefixed[2]
    if word in RUNTIME_NAMES:
        return label, word, path
    if nearest(word, RUNTIME_NAMES) is None:
        return label, None, rest  # find_subject says that there is no such file
    raise TargetError(
        "runtime-unknown",
        f"there is no runtime '{word}'; known: {', '.join(RUNTIME_NAMES)}",
        location=place,
        hint=did_you_mean(word, RUNTIME_NAMES),
    )


def _demand(subject: Subject) -> Demand | None:
    """What the launch config of an artefact asks for, as far as runtime.json tells."""
    target = subject.target
    return None if target is None else demand_of(target, subject.options.mode, None, None)


# ---- a recipe ----------------------------------------------------------------------------------


def choose_recipe(place: str | Path, *, runtimes: Sequence[str] = (), threads: int = 1) -> Chosen:
    """The source model of a recipe and the result for each of its targets.

    Args:
        place: the recipe.
        runtimes: measure all of them on each of these; empty: on the recipe's.
        threads: threads of the runtime.

    Raises:
        ModelError: ``not-compiled``: a result is not there.
        OptcError: as `prepare`.
    """
    prepared = prepare(place)
    recipe = prepared.recipe
    entries = [
        Entry(find_subject(recipe.model_path, runtime=name, threads=threads, label=SOURCE))
        for name in runtimes or (recipe.runtime,)
    ]
    for plan in prepared.plans:
        folder = recipe.output_path / plan.target.id
        if not (folder / FILE).is_file():
            raise ModelError(
                "not-compiled",
                f"there is no result for {plan.target.id}",
                location=str(folder),
                hint=f"run `optc compile {place}` first",
            )
        demand, _ = slices_of(plan.target, recipe.launch.settings)
        for name in runtimes or (None,):
            subject = find_subject(folder, runtime=name, threads=threads, label=plan.target.id)
            entries.append(Entry(subject, demand))
    return Chosen(tuple(_merged(_distinct(_alike(entries)))), recipe, _stale(recipe, place))


def _stale(recipe: Recipe, place: str | Path) -> tuple[str, ...]:
    """Says so when the output was not compiled from what the recipe says now."""
    try:
        manifest = json.loads((recipe.output_path / MANIFEST).read_text(encoding="utf-8"))
        compiled = (manifest["recipe"], manifest["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return (f"{recipe.output_path} has no readable {MANIFEST}: it may be incomplete",)
    if compiled == (recipe.digest, file_digest(recipe.model_path)):
        return ()
    return (
        f"recipe or model have changed since {recipe.output_path} was compiled: "
        f"`optc compile {place}` brings it up to date",
    )


def _merged(entries: Sequence[Entry]) -> list[Entry]:
    """Targets with the same graph and options as one entry.

    The model files themselves differ: each names its target in its metadata. graph.txt is the
    canonical text of the graph with the digest of each constant.
    """
    found: dict[object, Entry] = {}
    for entry in entries:
        folder = entry.subject.folder
        text = folder / _GRAPH_TEXT if folder is not None else None
        key: object = id(entry)
        if text is not None and text.is_file():
            options = entry.subject.options.model_copy(update=_OF_TARGET)
            key = (text.read_bytes(), options.model_dump_json(), entry.demand)
        if key in found:
            found[key] = replace(found[key], same=(*found[key].same, entry.subject))
        else:
            found[key] = entry
    return list(found.values())


# ---- options and labels ------------------------------------------------------------------------


def _alike(entries: Sequence[Entry]) -> list[Entry]:
    """Plain models get the options of the first artefact of their runtime, computing in fp32.

    A ratio between them is then the doing of the model, not of the options.
    """
    options: dict[str, LaunchOptions] = {}
    for entry in entries:
        if entry.subject.folder is not None:
            options.setdefault(entry.subject.runtime, _plain(entry.subject.options))
    return [
        entry
        if entry.subject.folder is not None or entry.subject.runtime not in options
        else replace(entry, subject=replace(entry.subject, options=options[entry.subject.runtime]))
        for entry in entries
    ]


def _plain(options: LaunchOptions) -> LaunchOptions:
    """Options of an artefact for a model that no target belongs to."""
    properties = options.properties
    if _HINT in properties:
        properties = {**properties, _HINT: "f32"}
    return options.model_copy(update={**_OF_TARGET, "properties": properties})


def hinted_bf16(options: LaunchOptions) -> bool:
    """Whether the options make the runtime compute fp32 operations in bf16."""
    return options.properties.get(_HINT) == "bf16"


def resting(subject: Subject) -> Subject:
    """The same with threads that sleep while they wait: spinning would count as CPU time."""
    if subject.runtime != "onnxruntime":
        return subject
    config = {**subject.options.session_config, _SPINNING: "0"}
    return replace(subject, options=subject.options.model_copy(update={"session_config": config}))


def _distinct(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """With runtime and number in the labels that would otherwise stand twice."""
    runtimes: dict[str, set[str]] = {}
    for entry in entries:
        runtimes.setdefault(entry.subject.label, set()).add(entry.subject.runtime)
    seen: Counter[str] = Counter()
    renamed = []
    for entry in entries:
        subject = entry.subject
        label = subject.label
        if len(runtimes[label]) > 1:
            label = f"{label} ({subject.runtime})"
        seen[label] += 1
        if seen[label] > 1:
            label = f"{label} #{seen[label]}"
        renamed.append(replace(entry, subject=replace(subject, label=label)))
    return tuple(renamed)
