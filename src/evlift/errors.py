"""The errors that evlift raises for its users. Everything else that escapes is a defect of ours."""


class EvliftError(Exception):
    """Base class: the command line prints its message without a traceback and exits with 1."""


class FormatError(EvliftError, ValueError):
    """A file or stream is not what its format says, or is of no known format."""


class DataError(EvliftError, ValueError):
    """A data set, manifest or cache is missing something or contradicts itself."""


class ConfigError(EvliftError, ValueError):
    """Settings that are unknown or contradict each other, found before any work starts."""
