"""Random draws of a training step that depend on their key alone: step n is the same whenever it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def generator(*key: int) -> np.random.Generator:
    """A generator for the key, for instance (seed, step, row, stream)."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def epoch_order(positions: NDArray[np.int64], n: int, seed: int, *, stream: int) -> NDArray[np.int64]:
    """Item indices at these positions of an endless sequence of shuffled epochs over n items."""
    epochs = positions // n
    orders = {int(e): np.random.default_rng([seed, stream, int(e)]).permutation(n) for e in np.unique(epochs)}
    return np.array([orders[int(e)][p % n] for e, p in zip(epochs, positions, strict=True)], dtype=np.int64)
