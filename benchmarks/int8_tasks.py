"""How well a model does its task, from its outputs on all test data: one number, more is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Task = Callable[[Array, Mapping[str, Array]], float]


_LOWEST_CENTS = 1997.3794084376191  # of the first bin of CREPE, above 10 Hz


def top1(output: Array, data: Mapping[str, Array]) -> float:
    """Share of samples, or of positions, whose best class is the label."""
    return float((output.argmax(-1) == data["label"][: len(output)]).mean())


def likelihood(output: Array, data: Mapping[str, Array]) -> float:
    """The inverse of the perplexity: the geometric mean of the probability of each next token."""
    logits = output.astype(np.float64) - output.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    labels = data["label"][: len(output), ..., None]
    return float(np.exp(np.take_along_axis(logs, labels, -1).mean()))


def reciprocal_rank(output: Array, data: Mapping[str, Array]) -> float:
    """Mean reciprocal rank of the sentence that belongs to each query; queries come first."""
    count = int(data["n_query"])
    scores = output[:count] @ output[count:].T
    ranks = (scores >= scores.diagonal()[:, None]).sum(1)
    return float((1 / ranks).mean())


def mask_f1(output: Array, data: Mapping[str, Array]) -> float:
    """F1 of the pixels above 0.3."""
    found, wanted = output[:, 0] > 0.3, data["label_mask"][: len(output)].astype(bool)
    return float(2 * (found & wanted).sum() / max(found.sum() + wanted.sum(), 1))


def lines(output: Array, data: Mapping[str, Array]) -> float:
    """Share of lines that are read right but for spaces: best classes without repetitions."""
    characters = ["", *data["characters"], ""]  # the blank first, the space last
    found = [
        "".join(characters[c] for c, p in zip(row, [-1, *row[:-1]], strict=True) if c != p)
        for row in output.argmax(-1).tolist()
    ]
    wanted = [label.replace(" ", "") for label in data["label"][: len(output)].tolist()]
    return float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))


def pitch(output: Array, data: Mapping[str, Array]) -> float:
    """Share of frames whose pitch is within 25 cents: the mean around the best bin."""
    peaks = output.argmax(1)[:, None] + np.arange(-4, 5)
    weights = np.take_along_axis(output, peaks.clip(0, output.shape[1] - 1), 1)
    weights = np.where((peaks >= 0) & (peaks < output.shape[1]), weights, 0)
    cents = (weights * (20 * peaks + _LOWEST_CENTS)).sum(1) / weights.sum(1)
    off = 1200 * np.log2(10 * 2 ** (cents / 1200) / data["label"][: len(output)])
    return float((np.abs(off) < 25).mean())


def frames(output: Array, data: Mapping[str, Array]) -> float:
    """Share of frames that are rightly told to be speech or not."""
    wanted = data["label"].astype(bool).reshape(-1)[: output.size]
    return float(((output.reshape(-1) > 0.5) == wanted).mean())


def agreement(output: Array, data: Mapping[str, Array]) -> float:
    """Share of samples whose best class is that of the source model."""
    return float((output.argmax(-1) == data["source"].argmax(-1)).mean())


TASKS: Mapping[str, tuple[str, Task, int]] = {
    "ppocr_cls": ("top1", top1, 0),
    "magika": ("top1", top1, 0),
    "mnist": ("top1", top1, 0),
    "char_llama": ("1 / perplexity", likelihood, 0),
    "minilm": ("reciprocal rank", reciprocal_rank, -1),
    "ppocr_v4_det": ("pixel F1", mask_f1, 0),
    "ppocr_v4_rec": ("lines", lines, 0),
    "crepe": ("within 25 cents", pitch, 0),
    "silero_vad": ("frames", frames, 0),
}
"""By the beginning of a model's name: what the metric is called, the metric, and which output."""


def task_of(name: str) -> tuple[str, Task, int]:
    """The task of a model; agreement with the source model where none is known."""
    found = (task for start, task in TASKS.items() if name.startswith(start))
    return next(found, ("best class as fp32", agreement, 0))
