"""`evlift report`."""

TEXT = ""
EXAMPLE = ""


def add_options(p):
    pass


def run(options):
    pass
