"""Readers: one a format, chosen by content."""
