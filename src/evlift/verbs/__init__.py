"""Verbs of the command line that have many options: what they take, and the call that they stand for."""
