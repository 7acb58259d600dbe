"""What the runs of a suite found: means, spreads and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import fmean, stdev
from typing import Any

from evlift.bench.checks import ADAPTED
from evlift.bench.jobs import Job
from evlift.bench.suite import Judge, Place, Suite
from evlift.bench.worker import key_of

Z = 1.959963984540054  # of a 95 % interval
MAC_PJ, ADDITION_PJ = 4.6, 0.9


@dataclass(frozen=True)
class Said:
    """What one judgement of one run said.

    Args:
        score: accuracy or mIoU.
        metric: which of them.
        right: 1 or 0 for every recording by name; None for masks.
        class_mean: mean over the classes of the share that was found.
        confusion: counts [K, K], row = true class; of samples or of pixels.
        per_step: the score if only the first 1, 2, ... T steps had been seen; empty in results of earlier versions.
    """

    score: float
    metric: str
    right: Mapping[str, int] | None = None
    class_mean: float = math.nan
    confusion: Sequence[Sequence[int]] | None = None
    per_step: Sequence[float] = ()


@dataclass(frozen=True)
class Value:
    """One cell of a table.

    Args:
        runs: what each place said.
        planned: number of runs; 0 where the suite wants none.
        failure: of a run that failed, what it said last.
        copies: places whose run is that of another place, since the row ignores what tells them apart.
    """

    runs: Mapping[Place, Said]
    planned: int
    failure: str = ""
    copies: frozenset[Place] = frozenset()

    @property
    def scores(self) -> list[float]:
        """One a run."""
        return [said.score for place, said in self.runs.items() if place not in self.copies]

    @property
    def mean(self) -> float:
        """Mean over the places; NaN without any."""
        return fmean(self.scores) if self.scores else math.nan

    @property
    def class_mean(self) -> float:
        """Mean over the places of the mean over the classes."""
        return fmean(said.class_mean for said in self.runs.values()) if self.runs else math.nan

    @property
    def pooled_iou(self) -> float | None:
        """mIoU of masks from one confusion matrix over all places; None for classes."""
        import numpy as np

        from evlift.engine.metrics import Segmentation

        counts = [said.confusion for said in self.runs.values() if said.metric == "mIoU" and said.confusion]
        return Segmentation(np.sum(counts, axis=0)).mean_iou if counts else None

    @property
    def per_step(self) -> list[float]:
        """Mean over the places of the scores after 1, 2, ... T steps; empty where that is not known."""
        found = [said.per_step for said in self.runs.values() if said.per_step]
        return [fmean(step) for step in zip(*found, strict=False)]

    @property
    def deviation(self) -> float:
        """Standard deviation over the places; NaN under two."""
        return stdev(self.scores) if len(self.scores) > 1 else math.nan

    @property
    def pooled(self) -> tuple[float, int, tuple[float, float]] | None:
        """Share of recordings read rightly over all places, how many they are, and the 95 % Wilson interval.

        A recording that several runs judged counts once, with the share of them that was right. None for masks.
        """
        by_name = by_recording([said.right for said in self.runs.values()])
        if not by_name:
            return None
        return fmean(by_name.values()), len(by_name), wilson(sum(by_name.values()), len(by_name))


@dataclass(frozen=True)
class Difference:
    """Row minus row, paired by place.

    Args:
        gains: of each place that both have.
        by_recording: mean gain of every recording; empty for masks.
    """

    gains: Sequence[float]
    by_recording: Sequence[float] = ()

    @property
    def mean(self) -> float:
        """Mean gain; NaN without a pair."""
        return fmean(self.gains) if self.gains else math.nan

    @property
    def over_runs(self) -> float:
        """Standard error over the runs; NaN under two."""
        return standard_error(self.gains)

    @property
    def over_recordings(self) -> float:
        """Standard error over the recordings; NaN under two."""
        return standard_error(self.by_recording)

    @property
    def p_over_runs(self) -> float:
        """Two-sided p of a paired t-test over the runs; NaN under three or where all gains are equal.

        Ranks would not do: over five runs Wilcoxon's p cannot fall under 0.0625.
        """
        from scipy.stats import ttest_1samp

        if len(self.gains) < 3 or max(self.gains) - min(self.gains) < 1e-9:  # equal but for rounding
            return math.nan
        return float(ttest_1samp(self.gains, 0.0).pvalue)

    @property
    def p_over_recordings(self) -> float:
        """Two-sided p of an exact sign-flip test over the recordings that differ; NaN where none does.

        Where each recording was judged once, that is McNemar's exact test of how often either row alone was right.
        """
        differ = [gain for gain in self.by_recording if gain]
        return sign_flip_p(differ) if differ else math.nan


@dataclass(frozen=True)
class Results:
    """All that was found of a suite so far.

    Args:
        suite: the suite.
        jobs: its runs.
        found: result.json of those that have one, by folder.
        sessions: of work: started, seconds, workers, runs, machine.
    """

    suite: Suite
    jobs: Sequence[Job]
    found: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sessions: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def read(cls, suite: Suite, jobs: Sequence[Job], sessions: Sequence[Mapping[str, Any]] = ()) -> Results:
        """Read the runs' folders and records."""
        found = {job.folder.name: result for job in jobs if (result := job.result())}
        return cls(suite, jobs, found, sessions)

    def splits(self, judge: Judge) -> list[str]:
        """Where a judge has judged: its own split, and test where that was asked for and no other judge reads it so."""
        asked = any(job.test for job in self.jobs)
        theirs = {(other.split, other.window) for other in self.suite.judges}
        own = judge.split == "val" and ("test", judge.window) not in theirs
        return [judge.split] + (["test"] if asked and own else [])

    def value(self, line: str, column: str, judge: str, split: str = "val") -> Value:
        """A cell of a table: `line` is a row's name, with " + adapted statistics" for its second line."""
        adapted = line.endswith(ADAPTED)
        row = line.removesuffix(ADAPTED)
        planned, failure = 0, ""
        runs: dict[Place, Said] = {}
        copies: set[Place] = set()
        for job in self.jobs:
            mine = [entry for entry in job.entries if (entry.row.name, entry.column.name) == (row, column)]
            if not mine or (split == "test" and mine[0].row.split):
                continue
            planned += 1
            failure = failure or job.failure
            said = self._said(job, self._key(row, judge, split, adapted))
            if said:
                runs |= {entry.place: said for entry in mine}
                copies |= {entry.place for entry in mine[1:]}
        return Value(runs, planned, failure, frozenset(copies))

    def _key(self, row: str, judge: str, split: str, adapted: bool) -> str:
        (wanted,) = (one for one in self.suite.rows if one.name == row)
        (its,) = (one for one in self.suite.judges_of(wanted) if one.name == judge)
        split = its.split if split == "val" else split
        return key_of({"split": split, "window": its.window, "adapt": adapted})

    def _said(self, job: Job, key: str) -> Said | None:
        result = self.found.get(job.folder.name, {})
        said = result.get("judged", {}).get(key)
        if said is None:
            return None
        right = said.get("right")
        names = result["names"][key.split("/")[0]]
        by_name = dict(zip(names, right, strict=True)) if right else None
        return Said(
            said["score"],
            said["metric"],
            by_name,
            said["class_mean"],
            said["confusion"],
            [math.nan if score is None else score for score in said.get("per_step", ())],
        )

    def reference_minus(self, line: str, column: str, judge: str, split: str = "val") -> Difference | None:
        """The suite's reference minus a line; None where they are not to be compared.

        That is where one of them is not wanted in the column, or is judged on another split than the other. A line with
        adapted statistics is compared with the reference's own adapted line, where that has one.
        """
        reference = self.suite.reference
        splits = {row.split for row in self.suite.rows if row.name in (reference, line.removesuffix(ADAPTED))}
        if reference in (None, line) or len(splits) > 1:
            return None
        adapts = any(row.adapt for row in self.suite.rows if row.name == reference)
        own = f"{reference}{ADAPTED}"
        mine = own if adapts and line.endswith(ADAPTED) and line != own else str(reference)
        ours, theirs = (self.value(name, column, judge, split) for name in (mine, line))
        return self.difference(ours, theirs) if ours.planned and theirs.planned else None

    def difference(self, ours: Value, theirs: Value) -> Difference:
        """Ours minus theirs over the places that both have; no pair of runs counts twice."""
        copies = ours.copies & theirs.copies
        places = [place for place in ours.runs if place in theirs.runs and place not in copies]
        pairs = [(ours.runs[place], theirs.runs[place]) for place in places]
        gains = [a.score - b.score for a, b in pairs]
        each = [
            {name: a.right[name] - b.right[name] for name in a.right if name in b.right}
            for a, b in pairs
            if a.right is not None and b.right is not None
        ]
        return Difference(gains, list(by_recording(each).values()))

    def spent(self, row: str, column: str | None = None) -> list[dict[str, float]]:
        """Means over the finished runs of a row: seconds, steps, parameters and the like; NaN where unknown.

        Args:
            row: its name.
            column: of its runs there alone; default: all of them.

        Returns:
            One for each number of parameters that its networks have, the fewest first; one if there is no run.
        """
        runs = {
            job.folder.name: self.found[job.folder.name]
            for job in self.jobs
            for entry in job.entries
            if entry.row.name == row and column in (None, entry.column.name) and job.folder.name in self.found
        }
        flat = [{**run, **energy(run.get("cost", {}))} for run in runs.values()]
        sizes = sorted({one.get("parameters", math.inf) for one in flat}) or [math.inf]
        names = ("steps", "samples", "seconds", "parameters", "macs", "synops", "dense_macs", "energy_nj")
        alike = ([one for one in flat if one.get("parameters", math.inf) == size] for size in sizes)
        return [
            {name: _mean([one[name] for one in found if name in one]) for name in names} for found in alike
        ]


def energy(cost: Mapping[str, Any]) -> dict[str, Any]:
    """A network's cost with a proxy of its energy: `energy_nj`, nanojoules a clip, of arithmetic alone.

    Source: Horowitz, ISSCC 2014, 45 nm, 32-bit floats: 4.6 pJ a multiply-accumulate, 0.9 pJ an addition. Memory, which
    often costs more, is left out: a proxy to compare networks by, not a measurement.
    """
    if "macs" not in cost:
        return dict(cost)
    return {**cost, "energy_nj": (MAC_PJ * cost["macs"] + ADDITION_PJ * cost["synops"]) / 1000}


def by_recording(runs: Sequence[Mapping[str, float] | None]) -> dict[str, float]:
    """The mean of every recording over the runs that judged it."""
    collected: dict[str, list[float]] = {}
    for run in runs:
        for name, value in (run or {}).items():
            collected.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in collected.items()}


def wilson(right: float, n: int) -> tuple[float, float]:
    """95 % Wilson interval of the share `right` / `n`.

    Example:
        >>> [round(end, 3) for end in wilson(8, 10)]
        [0.49, 0.943]
    """
    share = right / n
    middle = share + Z**2 / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n)


def sign_flip_p(gains: Sequence[float]) -> float:
    """Exact two-sided p that the sum of gains is as far from 0, were each sign as likely as the other.

    Gains are shares of runs, and so whole numbers of a common part: their sum's distribution is built gain by gain.

    Example:
        >>> round(sign_flip_p([1, 1, 1, 1, 1]), 4), round(sign_flip_p([1, 1, -0.5]), 2)
        (0.0625, 0.5)

    Args:
        gains: not zero, each a fraction with a denominator up to 1000.
    """
    import numpy as np

    fractions = [Fraction(gain).limit_denominator(1000) for gain in gains]
    part = Fraction(
        math.gcd(*(f.numerator for f in fractions)), math.lcm(*(f.denominator for f in fractions))
    )
    sizes = [int(abs(fraction) / part) for fraction in fractions]
    found = abs(int(sum(fractions) / part))
    chance = np.ones(1)  # of every sum of the sizes so far that got a plus sign
    for size in sizes:
        more = np.zeros(len(chance) + size)
        more[: len(chance)] += chance / 2
        more[size:] += chance / 2
        chance = more
    sums = 2 * np.arange(len(chance)) - sum(sizes)
    return float(min(1.0, chance[np.abs(sums) >= found].sum()))


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; NaN under two values."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
