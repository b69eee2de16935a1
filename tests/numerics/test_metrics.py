"""Metrics against cases computed by hand, and their registry."""

import math
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from optc.errors import CapabilityError, DataError
from optc.numerics import metrics, scores
from optc.numerics.metrics import METRICS, Metric, all_metrics, find_metric
from optc.numerics.values import Array

SOURCE = np.array([[3, 4], [0, 0]], np.float32)
RESULT = np.array([[3, 2], [0, 1]], np.float32)

# Six classes: the best of the source, and the same class third and last in the result.
LOGITS = np.array([[9, 1, 2, 3, 4, 5], [9, 1, 2, 3, 4, 5]], np.float32)
THIRD = np.array([[3, 1, 2, 0, 4, 5], [0, 1, 2, 3, 4, 5]], np.float32)


def value(
    name: str, expected: Array | None, actual: Array, labels: list[Any] | Array | None = None
) -> float:
    accumulator = METRICS[name].start()
    truth = None if labels is None else np.asarray(labels)
    accumulator.update({} if expected is None else {"y": expected}, {"y": actual}, truth)
    return accumulator.compute()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", (9 + 8) / math.sqrt(25 * 14)),
        ("max_abs_error", 2),
        ("mean_abs_error", 3 / 4),
        ("sqnr", 10 * math.log10(25 / 5)),
        ("top1_agreement", 0.0),  # of the equal scores in row 2 the first class is the best
        ("top5_agreement", 1.0),
    ],
)
def test_a_case_by_hand(name: str, expected: float) -> None:
    assert value(name, SOURCE, RESULT) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "equal", "misplaced"),
    [
        ("cosine", 1, math.nan),
        ("max_abs_error", 0, math.inf),
        ("mean_abs_error", 0, math.inf),
        ("sqnr", math.inf, -math.inf),
        ("top1_agreement", 1, 0.5),
        ("top5_agreement", 1, 1),
    ],
)
def test_equal_and_broken_results(name: str, equal: float, misplaced: float) -> None:
    assert value(name, SOURCE, SOURCE) == equal
    broken = np.array([[math.nan, 4], [math.inf, 0]], np.float32)
    found = value(name, SOURCE, broken)
    if name.startswith("top"):
        return
    assert found == misplaced or math.isnan(misplaced)


def test_samples_are_accumulated_over_all_elements() -> None:
    accumulator = METRICS["sqnr"].start()
    for row in range(2):
        accumulator.update({"y": SOURCE[row]}, {"y": RESULT[row]}, None)
    assert accumulator.compute() == pytest.approx(value("sqnr", SOURCE, RESULT))


@pytest.mark.parametrize(
    ("name", "expected"), [("cosine", 0.0), ("max_abs_error", 3.0), ("sqnr", -math.inf)]
)
def test_the_worst_output_decides(name: str, expected: float) -> None:
    accumulator = METRICS[name].start()
    accumulator.update(
        {"good": SOURCE, "bad": np.zeros(1, np.float32), "ids": np.array([1])},
        {"good": SOURCE, "bad": np.full(1, 3, np.float32), "ids": np.array([9])},
        None,
    )
    assert accumulator.compute() == expected


def test_a_missing_or_reshaped_output_is_as_bad_as_can_be() -> None:
    for actual in ({}, {"y": SOURCE.reshape(-1)}):
        accumulator = METRICS["sqnr"].start()
        accumulator.update({"y": SOURCE}, actual, None)
        assert accumulator.compute() == -math.inf
        hits = METRICS["top1_agreement"].start()
        hits.update({"y": SOURCE}, actual, None)
        assert hits.compute() == 0


def test_elements_of_sequences_are_outputs() -> None:
    accumulator = METRICS["max_abs_error"].start()
    accumulator.update({"s": [SOURCE, SOURCE]}, {"s": [SOURCE, RESULT]}, None)
    assert accumulator.compute() == 2


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if not m.needs_labels])
def test_a_model_without_float_outputs_has_no_value(name: str) -> None:
    with pytest.raises(DataError) as caught:
        value(name, np.array([[1]]), np.array([[1]]))
    assert caught.value.code == "metric-not-applicable"


# ---- classes -----------------------------------------------------------------------------------


def test_agreement_within_the_five_best() -> None:
    assert value("top1_agreement", LOGITS, LOGITS) == 1
    assert value("top1_agreement", LOGITS, THIRD) == 0
    assert value("top5_agreement", LOGITS, THIRD) == 0.5


@pytest.mark.parametrize(
    ("labels", "top1", "top5"),
    [([5, 5], 1, 1), ([4, 0], 0, 0.5), ([-1, 5], 1, 1), ([-1, 4], 0, 1)],
)
def test_labels_are_class_numbers_and_negative_ones_are_left_out(
    labels: list[int], top1: float, top5: float
) -> None:
    assert value("top1", None, THIRD, labels) == top1
    assert value("top5", None, THIRD, labels) == top5


@pytest.mark.parametrize("flat", [False, True])
def test_positions_of_a_sequence_are_judged_one_by_one(flat: bool) -> None:
    logits = np.stack([THIRD, THIRD])  # batch 2, positions 2, classes 6
    labels = [[5, 0], [4, 5]]
    actual = logits.reshape(4, 6) if flat else logits
    assert value("top1", None, actual, labels) == 0.5
    assert value("top1_agreement", logits, logits) == 1


def test_images_have_classes_in_the_second_axis() -> None:
    pixels = np.zeros((1, 3, 2, 2), np.float32)
    pixels[0, 2, 0, 0] = pixels[0, 1, 0, 1] = 1
    assert value("top1", None, pixels, [[[2, 1], [0, 1]]]) == 0.75
    assert value("top1_agreement", pixels, pixels) == 1
    assert value("top1", None, THIRD.reshape(2, 6, 1, 1), [5, 5]) == 1


def test_labels_may_have_an_axis_of_one() -> None:
    assert value("top1", None, THIRD, [[5], [5]]) == 1


def test_the_first_class_wins_among_equal_scores() -> None:
    ties = np.ones((1, 3), np.float32)
    assert [value("top1", None, ties, [label]) for label in range(3)] == [1, 0, 0]


def test_a_nan_score_is_never_right() -> None:
    for row in ([math.nan, 1.0], [math.nan, math.nan], [math.nan, -math.inf]):
        assert value("top1", None, np.array([row], np.float32), [0]) == 0


def test_small_floats_have_classes_as_well() -> None:
    assert value("top1", None, THIRD.astype(ml_dtypes.bfloat16), [5, 0]) == 0.5


def test_many_rows_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_CHUNK", 12)
    rows = np.tile(THIRD, (50, 1))
    assert value("top1", None, rows, [5] * 100) == 1
    assert value("top1_agreement", rows, rows) == 1


@pytest.mark.parametrize(
    ("labels", "code", "message"),
    [
        (None, "labels-missing", "the metric compares with labels, and the data has none"),
        (["a", "b"], "labels-not-classes", "labels are numbers of classes, not str32"),
        ([1.0, 2.0], "labels-not-classes", "labels are numbers of classes, not float64"),
        ([1, 6], "label-out-of-range", "there is a label 6, but output 'y' has 6 classes"),
        (
            [1, 2, 3],
            "metric-not-applicable",
            "no output has class scores for labels of shape (3,); floating-point outputs: y (2, 6)",
        ),
        ([-1, -1], "metric-not-applicable", "there is no labelled position to judge"),
    ],
)
def test_labels_that_do_not_fit(labels: list[Any] | None, code: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        value("top1", None, THIRD, labels)
    assert (caught.value.code, caught.value.message) == (code, message)


# ---- the registry ------------------------------------------------------------------------------


def test_every_metric_is_complete() -> None:
    assert list(METRICS) == [
        "cosine",
        "max_abs_error",
        "mean_abs_error",
        "sqnr",
        "top1_agreement",
        "top5_agreement",
        "top1",
        "top5",
    ]
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.description
        assert metric.unit
        assert metric.needs_labels == (name in ("top1", "top5"))
        assert metric.better == ("lower" if name.endswith("error") else "higher")


@pytest.mark.parametrize(
    ("name", "met", "missed"), [("cosine", 0.99, 0.98), ("max_abs_error", 0.01, 0.02)]
)
def test_goals_have_a_direction_and_nan_meets_none(name: str, met: float, missed: float) -> None:
    metric = find_metric(name)
    goal = 0.99 if metric.better == "higher" else 0.01
    assert metric.meets(met, goal)
    assert not metric.meets(missed, goal)
    assert not metric.meets(math.nan, goal)


def test_an_unknown_metric_gets_the_nearest_name() -> None:
    with pytest.raises(CapabilityError, match="there is no metric 'cosin'; there are cosine, max_"):
        find_metric("cosin")


MINE = Metric("mine", "higher", False, "1", "mine", METRICS["cosine"].start)
WRONG = "not a metric"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes packages offer entry points."""

    def install(*points: EntryPoint) -> None:
        monkeypatch.setattr(metrics, "entry_points", lambda group: EntryPoints(points))
        all_metrics.cache_clear()

    yield install
    all_metrics.cache_clear()


def point(name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{attribute}", "optc.metrics")


def test_packages_add_metrics(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda self: MINE)
    installed(point("mine", "MINE"))
    assert find_metric("mine") is MINE
    assert list(all_metrics())[:-1] == list(METRICS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cosine"], "the metric 'cosine' of .* is already defined by optc"),
        (["mine", "mine"], "the metric 'mine' of .* is already defined by "),
    ],
)
def test_a_name_is_given_once(
    installed: Any, monkeypatch: pytest.MonkeyPatch, names: list[str], message: str
) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda self: MINE)
    installed(*(point(name, "MINE") for name in names))
    with pytest.raises(CapabilityError, match=message) as caught:
        all_metrics()
    assert caught.value.code == "metric-defined-twice"


@pytest.mark.parametrize("loaded", [MINE, WRONG])
def test_an_entry_point_is_a_metric_of_its_name(
    installed: Any, monkeypatch: pytest.MonkeyPatch, loaded: object
) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda self: loaded)
    installed(point("other", "MINE"))
    with pytest.raises(CapabilityError, match="is not a Metric named 'other'"):
        all_metrics()
