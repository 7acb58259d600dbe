"""evlift: teach event cameras what labelled images already know."""
