"""Generated event streams for tests by law."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from evlift.events import EventStream

FAR = 10**15  # µs: a time that float32 cannot tell from its neighbours 60 s away


@st.composite
def streams(draw: st.DrawFn, max_events: int = 60) -> EventStream:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    n = draw(st.integers(0, max_events))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    origin = draw(st.sampled_from([0, 3, FAR]))
    times = origin + np.sort(rng.integers(0, draw(st.sampled_from([1, 5, 1000, 10**6])), n))
    columns = (times, rng.integers(0, width, n), rng.integers(0, height, n), rng.random(n) < 0.5)
    return EventStream.from_columns(*columns, sensor_size=(height, width))


def tensors(stream: EventStream) -> list[torch.Tensor]:
    return [
        torch.from_numpy(np.array(column, np.int64)) for column in (stream.t, stream.x, stream.y, stream.p)
    ]
