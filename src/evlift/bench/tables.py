"""The results as tables of text: scores, paired differences, costs, targets, and what was not run."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evlift.bench.checks import ADAPTED
from evlift.bench.results import ADDITION_PJ, MAC_PJ, Difference, Results, Value
from evlift.bench.suite import Judge
from evlift.wording import counted

NOT_RUN, NOT_PLANNED = "not run", "–"
SPENT = {
    "steps": "steps",
    "samples": "samples",
    "seconds": "seconds",
    "parameters": "parameters",
    "macs": "MACs a clip",
    "synops": "synaptic operations a clip",
    "energy_nj": f"nJ a clip (proxy: {MAC_PJ} pJ a MAC, {ADDITION_PJ} pJ an addition)",
}


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table under a heading."""
        cells = [[cell.replace("|", "\\|") for cell in line] for line in (self.header, *self.rows)]
        lines = [cells[0], ["---" for _ in self.header], *cells[1:]]
        return f"## {self.title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(results: Results) -> list[Table]:
    """All tables of a suite, those of scores first."""
    shown = []
    for judge in results.suite.judges:
        for split in results.splits(judge):
            shown.append(score_table(results, judge, split))
            if results.suite.reference:
                shown.append(difference_table(results, judge, split))
                shown.append(paired_table(results, judge, split))
            if results.suite.reference_cell in columns(results):
                shown.append(cell_table(results, judge, split))
    shown += [table for judge in results.suite.judges if (table := step_table(results, judge)).rows]
    shown.append(cost_table(results))
    if results.suite.targets:
        shown.append(target_table(results))
    return shown


def lines(results: Results) -> list[str]:
    """Names of the lines of a table of scores."""
    return [row.name + (ADAPTED if adapted else "") for row, adapted in results.suite.lines]


def columns(results: Results) -> list[str]:
    """Names of its columns."""
    return [column.name for column in results.suite.columns]


def score_table(results: Results, judge: Judge, split: str) -> Table:
    """Mean ± standard deviation (runs); on test pooled over the folds, with a 95 % interval."""
    rows = []
    for line in lines(results):
        values = [results.value(line, column, judge.name, split) for column in columns(results)]
        rows.append((line, *(pooled_text(v) if split == "test" else score_text(v) for v in values)))
    metric = next(
        (said.metric for v in _values(results, judge.name, split) for said in v.runs.values()), "score"
    )
    pooled = "pooled over the runs" + (", 95 % interval" if metric == "accuracy" else "")
    said = pooled if split == "test" else "mean ± standard deviation (runs)"
    return Table(f"{judge.name}, {split}: {metric}, {said}", ("row", *columns(results)), tuple(rows))


def difference_table(results: Results, judge: Judge, split: str) -> Table:
    """The reference minus every other row, paired by place."""
    reference, rows = results.suite.reference or "", []
    for line in lines(results):
        if line == reference:
            continue
        gains = [results.reference_minus(line, column, judge.name, split) for column in columns(results)]
        shown = [NOT_PLANNED if gain is None else difference_text(gain) for gain in gains]
        rows.append((line, *shown))
    header = (f"{reference} minus", *columns(results))
    adapts = any(row.adapt for row in results.suite.rows if row.name == reference)
    title = f"{judge.name}, {split}: paired differences to {reference}"
    return Table(title + ", adapted lines to its own adapted one" * adapts, header, tuple(rows))


def paired_table(results: Results, judge: Judge, split: str) -> Table:
    """Paired tests of the differences: over the runs and over the recordings."""
    reference, rows = results.suite.reference or "", []
    for line in lines(results):
        if line == reference:
            continue
        gains = [results.reference_minus(line, column, judge.name, split) for column in columns(results)]
        rows.append((line, *(NOT_PLANNED if gain is None else paired_text(gain) for gain in gains)))
    title = f"{judge.name}, {split}: paired tests against {reference}, two-sided p, not corrected for their number"
    return Table(title, (f"{reference} against", *columns(results)), tuple(rows))


def cell_table(results: Results, judge: Judge, split: str) -> Table:
    """Every column minus the suite's reference cell, row by row, paired by place, with tests."""
    reference = str(results.suite.reference_cell)
    others = [column for column in columns(results) if column != reference]
    rows = []
    for line in lines(results):
        base = results.value(line, reference, judge.name, split)
        values = [results.value(line, column, judge.name, split) for column in others]
        gains = [
            results.difference(value, base) if value.planned and base.planned else None for value in values
        ]
        rows.append((line, *(NOT_PLANNED if gain is None else _gain_and_test(gain) for gain in gains)))
    title = f"{judge.name}, {split}: what a column adds to '{reference}', with two-sided p"
    return Table(title, ("row", *others), tuple(rows))


def _gain_and_test(gain: Difference) -> str:
    tested = paired_text(gain)
    return difference_text(gain) + (f"; p {tested}" if tested not in (NOT_RUN, NOT_PLANNED) else "")


def step_table(results: Results, judge: Judge) -> Table:
    """Scores after the first 1, 2, ... T time steps, each line in the first column that has them."""
    found = []
    for line in lines(results):
        values = ((column, results.value(line, column, judge.name)) for column in columns(results))
        column, steps = next(((c, value.per_step) for c, value in values if value.per_step), ("", []))
        if steps:
            found.append((line, column, steps))
    longest = max((len(steps) for _, _, steps in found), default=0)
    rows = tuple(
        (line, column, *(f"{score:.3f}" for score in steps), *([NOT_PLANNED] * (longest - len(steps))))
        for line, column, steps in found
    )
    header = ("row", "in", *(f"t = {step}" for step in range(1, longest + 1)))
    return Table(f"{judge.name}, {judge.split}: score by time steps seen", header, rows)


def cost_table(results: Results) -> Table:
    """What a run of each row took, on average, and what its network costs; a line a size of network."""
    rows = []
    for row, spent in ((one, spent) for one in results.suite.rows for spent in results.spent(one.name)):
        unknown = NOT_PLANNED if spent["steps"] > 0 else NOT_RUN
        numbers = (unknown if math.isnan(spent[name]) else f"{spent[name]:,.0f}" for name in SPENT)
        rows.append((row.name, *numbers, NOT_PLANNED if row.trials is None else str(row.trials)))
    header = ("row", *SPENT.values(), "trials")
    return Table("Cost of a run, of its network, and trials of its hyper-parameters", header, tuple(rows))


def target_table(results: Results) -> Table:
    """Which targets of the suite are met."""
    rows = [target_row(results, target) for target in results.suite.targets]
    return Table("Targets", ("target", "found", "met"), tuple(rows))


def target_row(results: Results, target: dict[str, Any]) -> tuple[str, str, str]:
    """A target in words, what was found, and yes, no or not run.

    A row is to reach `at_least` a score, or to be `by` above the row `over`; `errors` standard errors over the runs
    (over the recordings with one run) are allowed for, 0 unless the suite says so.
    """
    judge = target.get("judge", results.suite.judges[0].name)
    column = target.get("cell", columns(results)[0])
    ours = results.value(target["row"], column, judge)
    place = f"{column}, {judge}"
    if "over" not in target:
        wanted = target["at_least"]
        met = NOT_RUN if not ours.runs else _yes(ours.mean >= wanted)
        return f"{target['row']} at least {wanted} ({place})", score_text(ours), met
    gain = results.difference(ours, results.value(target["over"], column, judge))
    by = target.get("by", 0.0)
    error = gain.over_recordings if math.isnan(gain.over_runs) else gain.over_runs
    allowed = target.get("errors", 0) * (0.0 if math.isnan(error) else error)
    met = NOT_RUN if not gain.gains else _yes(gain.mean + allowed >= by)
    return f"{target['row']} over {target['over']} by {by} ({place})", difference_text(gain), met


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def score_text(value: Value) -> str:
    """A cell: "0.912 ± 0.004 (5)", "0.912 (1 of 5)", "not run", or "–" where no run is planned."""
    if not value.runs:
        return _absent(value)
    spread = "" if math.isnan(value.deviation) else f" ± {value.deviation:.3f}"
    runs = len(value.scores)
    count = str(runs) + ("" if runs == value.planned else f" of {value.planned}")
    return f"{value.mean:.3f}{spread} ({count})"


def pooled_text(value: Value) -> str:
    """A cell of test: "0.912 [0.893, 0.928] (1000 recordings)"."""
    pooled = value.pooled
    if pooled is None:
        iou = value.pooled_iou
        return score_text(value) if iou is None else f"{iou:.3f} ({counted(len(value.scores), 'run')})"
    share, n, (low, high) = pooled
    runs = len(value.scores)
    missing = "" if runs == value.planned else f", {runs} of {counted(value.planned, 'run')}"
    return f"{share:.3f} [{low:.3f}, {high:.3f}] ({counted(n, 'recording')}{missing})"


def _absent(value: Value) -> str:
    if not value.planned:
        return NOT_PLANNED
    return "failed" if value.failure else NOT_RUN


def difference_text(difference: Difference) -> str:
    """A cell: "+0.021, s.e. 0.006 over runs, 0.008 over recordings (5)"."""
    if not difference.gains:
        return NOT_RUN
    errors = {"runs": difference.over_runs, "recordings": difference.over_recordings}
    said = [f"{error:.3f} over {kind}" for kind, error in errors.items() if not math.isnan(error)]
    return (
        f"{difference.mean:+.3f}"
        + (", s.e. " + ", ".join(said) if said else "")
        + f" ({len(difference.gains)})"
    )


def paired_text(difference: Difference) -> str:
    """A cell: "0.031 over 5 runs, 0.012 over 61 of 1000 recordings", those that differ."""
    if not difference.gains:
        return NOT_RUN
    said = []
    if not math.isnan(difference.p_over_runs):
        said.append(f"{p_text(difference.p_over_runs)} over {counted(len(difference.gains), 'run')}")
    if not math.isnan(difference.p_over_recordings):
        differ = sum(gain != 0 for gain in difference.by_recording)
        said.append(
            f"{p_text(difference.p_over_recordings)} over {differ} of {len(difference.by_recording)} recordings"
        )
    return ", ".join(said) or NOT_PLANNED


def p_text(p: float) -> str:
    """A p with three places: "0.031", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def summary(results: Results) -> list[str]:
    """Sentences below the tables: how much was run, where, what was not, and what failed."""
    done = [job for job in results.jobs if job.done]
    said = [f"{len(done)} of {len(results.jobs)} runs are done."]
    if budget := results.suite.budget:
        said.append(f"Budget of every run: {budget.amount:g} {budget.kind}.")
    said += _where_and_how_long(results)
    said += [f"{row.name}: judged on {row.split}." for row in results.suite.rows if row.split]
    failed = {job: job.failure for job in results.jobs if job.failure}
    said += [f"Failed: {job}: {failure}" for job, failure in failed.items()]
    said += [f"Not run: {job}" for job in results.jobs if not job.done and job not in failed]
    return said


def _where_and_how_long(results: Results) -> list[str]:
    """Machines, versions, hours of training, and hours by the clock."""
    runs = results.found.values()
    if not runs:
        return []
    machines = sorted({f"{run['environment']['machine']}, {run['environment']['device']}" for run in runs})
    versions = {run["environment"].get("packages", {}).get("evlift", "unknown") for run in runs}
    hours = sum(run["seconds"] for run in runs) / 3600
    judging = sum(run.get("judge_seconds", 0.0) for run in runs) / 3600
    said = [
        f"Training took {hours:.2f} hours and judging {judging:.2f} hours in all, summed over the runs, on "
        f"{' and '.join(machines)}, with evlift {', '.join(sorted(versions))}."
    ]
    if results.sessions:
        wall = sum(session["seconds"] for session in results.sessions) / 3600
        workers = sorted({session["workers"] for session in results.sessions})
        said.append(
            f"Wall time: {wall:.2f} hours in {counted(len(results.sessions), 'session')}, "
            f"{' or '.join(map(str, workers))} at a time."
        )
    return said


def records(results: Results) -> list[dict[str, Any]]:
    """One flat record for every line, column, judge and split, for CSV and JSON."""
    return [
        record(results, line, column, judge.name, split=split)
        for judge in results.suite.judges
        for split in results.splits(judge)
        for line in lines(results)
        for column in columns(results)
    ]


def record(results: Results, line: str, column: str, judge: str, *, split: str) -> dict[str, Any]:
    """All that is known of one cell of a table; None for what is not."""
    value = results.value(line, column, judge, split)
    gain = results.reference_minus(line, column, judge, split) or Difference(())
    pooled = value.pooled
    trials = {row.name: row.trials for row in results.suite.rows}
    said: dict[str, Any] = {
        "row": line,
        "column": column,
        "judge": judge,
        "split": split,
        "metric": next((one.metric for one in value.runs.values()), None),
        "mean": value.mean,
        "class_mean": value.class_mean,
        "pooled_iou": value.pooled_iou,
        "deviation": value.deviation,
        "runs": len(value.scores),
        "planned": value.planned,
        "recordings": pooled[1] if pooled else None,
        "interval_low": pooled[2][0] if pooled else None,
        "interval_high": pooled[2][1] if pooled else None,
        "reference_minus": gain.mean,
        "error_over_runs": gain.over_runs,
        "error_over_recordings": gain.over_recordings,
        "p_over_runs": gain.p_over_runs,
        "p_over_recordings": gain.p_over_recordings,
        "trials": trials[line.removesuffix(ADAPTED)],
        **results.spent(line.removesuffix(ADAPTED), column)[0],
    }
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in said.items()}


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Records as CSV; nothing between commas where nothing is known."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _values(results: Results, judge: str, split: str) -> Iterator[Value]:
    for line in lines(results):
        yield from (results.value(line, column, judge, split) for column in columns(results))
