"""Judging beyond a run's own data: recordings of other sensors, disturbed recordings, confidence, packs of weights."""
