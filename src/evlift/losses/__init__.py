"""evlift's losses."""
