"""evlift's models."""
