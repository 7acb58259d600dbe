"""evlift's methods."""
