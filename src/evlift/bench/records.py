"""Records: what the runs of a suite found, in one small file that outlives the machine and can be committed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evlift.engine.run import processor
from evlift.errors import DataError
from evlift.files import locked, write_text

FORMAT, VERSION = "evlift-bench-records", 1
ABOUT = (
    "row",
    "cell",
    "place",
    "digest",
    "split",
    "environment",
    "steps",
    "samples",
    "seconds",
    "judge_seconds",
)
FINDINGS = (*ABOUT, "finished", "kept_step", "selected_on", "cost")
SESSIONS = "sessions.jsonl"
TIME = "%Y-%m-%dT%H:%M:%SZ"


class Records:
    """The figures of a suite's finished runs by digest, in `FOLDER/SUITE.jsonl`.

    Example:
        >>> records = Records("results", "digits")  # doctest: +SKIP
        >>> records.add([result])  # doctest: +SKIP

    One line a run, sorted by digest; which samples a run read rightly is one hexadecimal number, whose bits follow the
    names of the judged split. These stand once a split, in lines of their own, as do the sessions of work. Weights and
    logs stay behind.

    Args:
        folder: of the file.
        suite: name of the file.

    Raises:
        DataError: the file is there, but is no such file or is damaged.
    """

    def __init__(self, folder: Path | str, suite: str) -> None:
        if Path(folder).exists() and not Path(folder).is_dir():
            raise DataError(f"Expected a folder for records, but {folder} is a file. Give its folder.")
        self.path = Path(folder) / f"{suite}.jsonl"
        self.runs: dict[str, dict[str, Any]] = {}
        self.names: dict[str, list[str]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self._read()

    def result(self, digest: str) -> dict[str, Any]:
        """What a run's result.json said; empty if there is no record of it."""
        run = self.runs.get(digest)
        if run is None:
            return {}
        splits = {key.split("/")[0] for key in run["judged"]}
        names = {split: self.names[_place(run, split)] for split in splits}
        judged = {key: _unpacked(said, len(names[key.split("/")[0]])) for key, said in run["judged"].items()}
        return {**run, "names": names, "judged": judged}

    def add(self, results: Iterable[Mapping[str, Any]], sessions: Iterable[Mapping[str, Any]] = ()) -> None:
        """Take in results and sessions and write the file, if they say more; what others wrote meanwhile is kept."""
        found = [result for result in results if result and self._says_more(result)]
        new = [dict(session) for session in sessions if _key(session) not in self.sessions]
        if not found and not new:
            return
        with locked(self.path.parent):
            self._read()
            self.sessions |= {_key(session): session for session in new}
            for result in found:
                for split, names in result["names"].items():
                    self.names[_place(result, split)] = list(names)
                run = {name: result[name] for name in FINDINGS if name in result}
                judged = {key: _packed(said) for key, said in result["judged"].items()}
                known = self.runs.get(result["digest"], {}).get("judged", {})
                self.runs[result["digest"]] = {**run, "judged": known | judged}
            self._write()

    def _says_more(self, result: Mapping[str, Any]) -> bool:
        known = self.runs.get(result["digest"], {})
        return bool(set(result["judged"]) - set(known.get("judged", ())))

    def _read(self) -> None:
        if not self.path.is_file():
            return
        try:
            head, *lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
            if (head["format"], head["version"]) != (FORMAT, VERSION):
                raise ValueError(f"it says {head}")
            for line in lines:
                if "digest" in line:
                    self.runs[line["digest"]] = line
                elif "started" in line:
                    self.sessions[_key(line)] = line
                else:
                    self.names[line["of"]] = line["names"]
            for digest, run in self.runs.items():
                _require(run["environment"], "machine", "device")
                for said in self.result(digest)["judged"].values():
                    _require(said, "score", "metric", "class_mean", "confusion")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"Expected {self.path} to hold records of runs, but: {type(error).__name__}: {error}. Restore it, or "
                "give another --records."
            ) from None

    def _write(self) -> None:
        used = {_place(run, key.split("/")[0]) for run in self.runs.values() for key in run["judged"]}
        head = {"format": FORMAT, "version": VERSION, "suite": self.path.stem}
        lists = [{"of": place, "names": self.names[place]} for place in sorted(used)]
        sessions = [self.sessions[key] for key in sorted(self.sessions)]
        lines = [head, *sessions, *lists, *(self.runs[digest] for digest in sorted(self.runs))]
        text = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) for line in lines)
        write_text(self.path, "\n".join(text) + "\n")


def note_session(out: Path, started: time.struct_time, seconds: float, *, workers: int, runs: int) -> None:
    """Add a session of work to those of a suite's folder.

    Args:
        out: the suite's folder.
        started: when, UTC.
        seconds: how long, by the clock on the wall.
        workers: runs at a time.
        runs: how many were finished in it.
    """
    session = {
        "started": time.strftime(TIME, started),
        "seconds": round(seconds, 1),
        "workers": workers,
        "runs": runs,
        "machine": f"{processor()}, {os.cpu_count()} cores",
    }
    lines = [json.dumps(one) for one in (*read_sessions(out), session)]
    write_text(out / SESSIONS, "\n".join(lines) + "\n")


def read_sessions(out: Path) -> list[dict[str, Any]]:
    """The sessions in which a suite's folder was worked on."""
    path = out / SESSIONS
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise DataError(
            f"Expected {path} to hold sessions of work, but: {error}. Delete it; only hours by the clock are lost."
        ) from None


def _key(session: Mapping[str, Any]) -> str:
    return f"{session['started']} {session['machine']}"


def _place(run: Mapping[str, Any], split: str) -> str:
    """Under what the names of a run's judged split are filed: the hash of its splits, and which of them."""
    return f"{run['split'][:16]}/{split}"


def _require(found: Mapping[str, Any], *names: str) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise KeyError(missing[0])


def _packed(said: Mapping[str, Any]) -> dict[str, Any]:
    right = said.get("right")
    bits = {} if right is None else {"right": f"{int('1' + ''.join(map(str, right)), 2):x}"}
    return {**said, **bits}


def _unpacked(said: Mapping[str, Any], samples: int) -> dict[str, Any]:
    if "right" not in said:
        return dict(said)
    bits = f"{int(said['right'], 16):b}"[1:]
    if len(bits) != samples:
        raise ValueError(f"{len(bits)} samples for {samples} names")
    return {**said, "right": [int(bit) for bit in bits]}
