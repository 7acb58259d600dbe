"""evlift's engine."""
