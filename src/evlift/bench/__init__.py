"""Benchmarks: a suite of runs from one YAML file, run in parallel, resumable at the row, judged by one protocol."""
