"""The benchmark of streams: what it feeds is one long recording, and its judgement can fail."""

from __future__ import annotations

import time
import types

import numpy as np
import pytest

import evlift
from helpers import benchmark
from streams import events


@pytest.fixture(scope="module")
def stream():
    return benchmark("stream")


@pytest.mark.parametrize(
    ("period_us", "rounds"), [(49 * 4096, 3), (1000 * 4096, 6)]
)  # the latter past the clock's 16.8 s
def test_rounds_are_one_long_recording(stream, tmp_path, period_us, rounds):
    loop = stream.Loop(events(), period_us, fill=True)
    (tmp_path / "a.raw").write_bytes(loop.header + b"".join(loop[number] for number in range(rounds)))
    reader = evlift.open_reader(tmp_path / "a.raw")
    found = reader.read()
    assert not reader.problems
    assert len(found) == rounds * loop.events
    first = found.t[: loop.events]
    assert (found.t == np.concatenate([first + k * period_us for k in range(rounds)])).all()
    assert period_us * 0.99 < first[-1] - first[0] < period_us


def test_a_soak_says_what_is_wrong(stream):
    loop = types.SimpleNamespace(events=100, period_us=10_000)
    options = types.SimpleNamespace(bound_ms=100.0)
    began = time.monotonic() - 10.0

    def judged(events: int, growth: float, delay_s: float, paced_s: float) -> list[str]:
        dropped = {"late_events": 3, "out_of_range": 0}
        lines = [(began + k / 100 + delay_s, k * 10_000, 100) for k in range(1, 1001)]
        weighed = [(began + k / 10, 100 * (1 + growth * k / 100), k / 100) for k in range(100)]
        summary = {"dropped": dropped, "events": events, "windows": 1000}
        watched = types.SimpleNamespace(finish=lambda: summary, lines=lines, weighed=weighed)
        fed = stream.Fed(began, 1000, 0.0, (1000, paced_s))
        return stream.judge(watched, fed, loop, options)["wrong"]

    assert "events are missing" in judged(
        99_997, 0.0, 0.01, 10.0
    )  # 100 000 predicted and 3 dropped of 100 000 fed
    assert "memory grows" in judged(99_997, 0.2, 0.01, 10.0)
    assert "latency is not bounded" in judged(99_997, 0.0, 0.5, 10.0)
    assert "the rate was not reached" in judged(99_997, 0.0, 0.01, 11.0)
    loop.events = 100.003  # 1 000 rounds of it are what was predicted and what was dropped
    assert judged(100_000, 0.0, 0.01, 10.0) == []
