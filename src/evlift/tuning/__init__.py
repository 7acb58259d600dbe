"""Hyper-parameters chosen on val: `evlift tune`, with Optuna."""
