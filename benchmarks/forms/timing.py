"""Times models that take turns: CPU time of a thread, medians, and an interval from blocks.

A block opens every form anew, because where memory lies differs from one opening to the next.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from optc.evidence.bench_stats import Ratio, ratio_of_blocks, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Open = Callable[[], Callable[[], object]]

BLOCKS = 7
_ROUNDS = 200


def compare(forms: Mapping[str, Open], budget: float) -> dict[str, tuple[float, Ratio]]:
    """Per form its median time in seconds, and the ratio to the first form's.

    Args:
        forms: opens each form.
        budget: seconds of CPU time in runs, over all blocks and forms.
    """
    names = list(forms)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(BLOCKS):
        calls = [forms[name]() for name in names]
        for name, seconds in zip(names, _block(calls, budget / BLOCKS), strict=True):
            times[name].append(seconds)
    first = np.log(times[names[0]])
    return {
        name: (float(np.median(t)), ratio_of_blocks([float(v) for v in np.log(t) - first]))
        for name, t in times.items()
    }


def _block(calls: Sequence[Callable[[], object]], budget: float) -> list[float]:
    spent: list[list[float]] = [[] for _ in calls]
    start = time.process_time()
    for call in calls:
        call()
    if time.process_time() - start < budget:
        for call in calls:
            call()
    end = time.process_time() + budget
    for number in range(_ROUNDS):
        for index in turns(len(calls), number):
            start = time.process_time()
            calls[index]()
            spent[index].append(time.process_time() - start)
        if time.process_time() > end:
            break
    return [float(np.median(times)) for times in spent]
