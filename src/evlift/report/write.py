"""`evlift report`: from finished runs to one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evlift.errors import ConfigError, EvliftError
from evlift.files import write_text

if TYPE_CHECKING:
    from evlift.assembly import Trained
    from evlift.report.judge import Judged
    from evlift.report.watch import Frame, Raster, Strip

MOST_RUNS = 6
MOST_BYTES = 5_000_000
SIDES = (128, 96, 64, 40)  # of a picture in pixels; a page that would be too large gets smaller ones
Tell = Callable[[int, int], None]


@dataclass
class Subject:
    """One run and what was found out about it.

    Args:
        name: what the page calls it.
        trained: the run, opened.
        judged: what a pass over the split found; None where that was not possible.
        problem: why it was not judged, else empty.
        rasters: layer → spikes of one clip.
        frames: of the player.
        views: what the whole method makes of held-out data.
        hidden: why that cannot be shown, else empty.
    """

    name: str
    trained: Trained
    judged: Judged | None = None
    problem: str = ""
    rasters: dict[str, Raster] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    views: Strip = field(default_factory=dict)
    hidden: str = ""


def write_report(
    runs: Sequence[str | Path] | str | Path,
    out: str | Path = "report.html",
    *,
    split: str = "val",
    tell: Tell | None = None,
) -> Path:
    """Write one self-contained HTML page about a finished run, or one that compares several.

    Example:
        >>> evlift.write_report("runs/a", "report.html")  # doctest: +SKIP
        PosixPath('report.html')

    The networks are run on the split; a run whose data are not there, or whose split is empty, is reported from what
    its folder holds, and the page says so. The page is below 5 MB: pictures become smaller and
    players coarser until it is.

    Args:
        runs: folders, at most six.
        out: the page.
        split: val or test; networks that read pictures are judged on source_val.
        tell: called as ``tell(done, all)`` after each run.

    Raises:
        DataError: no such run, or an unfinished one.
        ConfigError: no run or too many, or a page that cannot be made small enough.
    """
    folders = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not 0 < len(folders) <= MOST_RUNS:
        raise ConfigError(
            f"Expected 1 to {MOST_RUNS} runs on a page, but got {len(folders)}. Write several pages with an --out each."
        )
    twice = [str(folder) for folder, count in Counter(folders).items() if count > 1]
    if twice:
        raise ConfigError(f"Expected different runs, but got {', '.join(twice)} twice. Name each once.")
    if Path(out).is_dir():
        raise ConfigError(f"Expected a file for the page, but {out} is a folder. Give --out DIR/report.html.")
    subjects = []
    for done, (folder, name) in enumerate(zip(folders, short_names(folders), strict=True)):
        subjects.append(look_at(folder, name, split))
        if tell is not None:
            tell(done + 1, len(folders))
    write_text(out, fitted(subjects, split))
    return Path(out)


def fitted(subjects: Sequence[Subject], split: str, most: int = MOST_BYTES) -> str:
    """The page with the largest pictures that keep it below `most` bytes."""
    from evlift.report.sections import compose

    for side in SIDES:
        page = compose([thinned(one, side) for one in subjects], split, side).render()
        if len(page.encode()) <= most:
            return page
    raise ConfigError(
        f"Expected a page of at most {most} bytes, but got {len(page.encode())}. Report fewer runs."
    )


def thinned(subject: Subject, side: int) -> Subject:
    """The run with fewer frames in its player where pictures must be small."""
    return replace(subject, frames=subject.frames[:: SIDES[0] // side])


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last part of every folder, or the whole path where two end alike."""
    ends = [folder.resolve().name for folder in folders]
    return [end if ends.count(end) == 1 else str(folder) for end, folder in zip(ends, folders, strict=True)]


def look_at(folder: Path, name: str, split: str) -> Subject:
    """Open a run, judge it on its data if they are there, and look inside its network."""
    from evlift.assembly import create_task, open_run, reads_pictures
    from evlift.report.judge import judge
    from evlift.report.watch import method_views, play, rasters

    trained = open_run(folder)
    subject = Subject(name, trained)
    try:
        task = create_task(trained.recipe)
        subject.judged = judge(trained, task, split)
    except (EvliftError, OSError) as error:
        subject.problem = f"Not judged: {error}"
        return subject
    subject.rasters = rasters(trained.network, subject.judged.examples[0].clip)
    if not reads_pictures(trained.recipe):
        subject.frames = play(trained, task, split, SIDES[0])
        try:
            subject.views = method_views(trained, task, split)
        except (EvliftError, RuntimeError, OSError) as error:  # such as without its teacher's folder
            subject.hidden = str(error).partition("\n")[0]
    return subject
