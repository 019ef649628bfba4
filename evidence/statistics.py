"""Intervals and verdicts over seeds, rooms and tasks, each a few lines of numpy and scipy; for reproduce.py.

rliable (Agarwal et al. 2021), whose measures these are, would bring pandas, seaborn and statsmodels with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

import numpy as np
from scipy import stats

FEWEST = 5  # seeds; of fewer the numbers are shown, and no interval
REPEATS = 2000  # of a bootstrap
ALPHA = 0.05
Interval = tuple[float, float]


def iqm(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the interquartile mean: of the values without the lowest and the highest quarter."""
    return stats.trim_mean(values, 0.25, axis=axis)


def percentiles(repeated: np.ndarray) -> Interval:
    """Return the 95 % interval of a bootstrap's repeats, ends among them, so that infinite ones stay apart."""
    low, high = np.quantile(repeated, [ALPHA / 2, 1 - ALPHA / 2], method="closest_observation", axis=0)
    return low, high


def bootstrap(strata: Sequence[np.ndarray], statistic: Callable[[list[np.ndarray]], np.ndarray]) -> Interval:
    """Return the 95 % percentile interval of a statistic of samples, each resampled by itself along its first axis.

    strata: the seeds of each task, say, (n, ...).  statistic: takes all repeats of each stratum at once, an array
    (repeats, n, ...), and returns a number for each repeat, (repeats,), or the heights of a band, (repeats, ...).
    """
    rng = np.random.default_rng(0)
    drawn = [[rng.integers(len(own), size=len(own)) for own in strata] for _ in range(REPEATS)]
    return percentiles(statistic([own[np.stack(picked)] for own, picked in zip(strata, zip(*drawn))]))


def two_level_interval(rooms_of_seeds: Sequence[np.ndarray]) -> Interval:
    """Return the 95 % interval of the mean over seeds and rooms: seeds are drawn, and of each its rooms."""
    rng, n = np.random.default_rng(0), len(rooms_of_seeds)
    drawn = rng.integers(n, size=(REPEATS, n))
    means = np.empty((REPEATS, n))
    for k, rooms in enumerate(rooms_of_seeds):  # a seed that is drawn twice has its rooms drawn twice
        values, counts = np.unique(rooms, return_counts=True)
        here = drawn == k
        means[here] = rng.multinomial(len(rooms), counts / len(rooms), size=here.sum()) @ values / len(rooms)
    return percentiles(means.mean(1))


def summarize_rooms(rooms_of_seeds: Sequence[np.ndarray]) -> tuple[list[float], Interval | None]:
    """Return the mean over seeds and rooms and its interval, or of few seeds the mean of each and no interval."""
    means = [float(rooms.mean()) for rooms in rooms_of_seeds]
    if len(means) < FEWEST:
        return means, None
    return [float(np.mean(means))], two_level_interval(rooms_of_seeds)


def improvement(tasks: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, Interval]:
    """Return P(X > Y), a tie counting half, for a run of each kind on a task drawn at random, and its interval.

    tasks: the numbers of both kinds on each task.
    """

    def statistic(samples: list[np.ndarray]) -> np.ndarray:
        pairs = [x[..., :, None] - y[..., None, :] for x, y in zip(samples[::2], samples[1::2])]
        return np.mean([np.mean((gaps > 0) + 0.5 * (gaps == 0), axis=(-2, -1)) for gaps in pairs], axis=0)

    strata = [kind for task in tasks for kind in task]
    return float(statistic(strata)), bootstrap(strata, statistic)


def profile(strata: Sequence[np.ndarray], heights: np.ndarray) -> np.ndarray:
    """Return the performance profile: the share of runs above each height, every task counting the same.

    strata: the runs of each task, (..., n); to (..., len(heights)).
    """
    return np.mean([(own[..., None] > heights).mean(-2) for own in strata], axis=0)


# ------------------------------------------------------------------------------------------------------------- verdicts


class Sample(NamedTuple):
    """Numbers of a group's seeds; or one known number with its standard error, which has no seeds."""

    numbers: Sequence[float]
    error: float | None = None
    censored: bool = False  # whether some are only known to be greater

    @property
    def can_be_compared(self) -> bool:
        """Return whether there are numbers, and enough seeds for an interval."""
        return bool(len(self.numbers)) and (self.error is not None or len(self.numbers) >= FEWEST)


class Comparison(NamedTuple):
    """Two samples, and the difference that does not matter, stated beforehand."""

    first: Sample
    second: Sample
    margin: float


def welch(first: Sample, second: Sample) -> tuple[float, float, float]:
    """Return the difference of two means, its standard error, and Welch's degrees of freedom.

    Each seed has evaluation rooms of its own, so that the spread of the seeds' means holds that of the rooms, too.
    """
    parts = [
        (s.error**2, np.inf)
        if s.error is not None
        else (np.var(s.numbers, ddof=1) / len(s.numbers), len(s.numbers) - 1)
        for s in (first, second)
    ]
    squared = sum(variance for variance, _ in parts)
    freedom = sum(variance**2 / degrees for variance, degrees in parts)
    degrees = squared**2 / freedom if freedom > 0 else np.inf
    return float(np.mean(first.numbers) - np.mean(second.numbers)), float(np.sqrt(squared)), float(degrees)


def p_values(comparison: Comparison) -> tuple[float, float]:
    """Return the p-values of "they are equal", Welch's test, and of "they differ by the margin or more", two of it."""
    gap, error, degrees = welch(comparison.first, comparison.second)
    if error < 1e-12:
        return float(abs(gap) < 1e-12), float(abs(gap) >= comparison.margin)
    beyond = [(comparison.margin + gap) / error, (comparison.margin - gap) / error]
    return 2 * stats.t.sf(abs(gap) / error, degrees), max(stats.t.sf(beyond, degrees))


def holm(ps: Sequence[float]) -> np.ndarray:
    """Return Holm's adjusted p-values: the k-th smallest of m times m - k, and none below one before it."""
    order = np.argsort(ps, kind="stable")
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.array(ps)[order] * np.arange(len(ps), 0, -1)))
    return adjusted


def judge(comparisons: Sequence[Comparison]) -> list[str]:
    """Return how each first sample is to the second: higher, lower, level (within the margin), or undecided.

    Adjusted over all that are judged together. A censored number stands for a greater one, so it can show that its
    sample is higher, and never that it is lower or level. "few seeds" where there are too few.
    """
    compared = [c for c in comparisons if c.first.can_be_compared and c.second.can_be_compared]
    adjusted = iter(holm([p for c in compared for p in p_values(c)]).reshape(-1, 2).tolist())
    verdicts = []
    for c in comparisons:
        if not (c.first.can_be_compared and c.second.can_be_compared):
            verdicts.append("few seeds" if len(c.first.numbers) and len(c.second.numbers) else "no runs")
            continue
        differ, beyond = next(adjusted)
        higher = np.mean(c.first.numbers) > np.mean(c.second.numbers)
        if beyond < ALPHA and not (c.first.censored or c.second.censored):
            verdicts.append("level")
        elif differ < ALPHA and not (c.second.censored if higher else c.first.censored):
            verdicts.append("higher" if higher else "lower")
        else:
            verdicts.append("undecided")
    return verdicts
