"""evlift's datasets."""
