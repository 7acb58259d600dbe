"""The errors that evlift raises for its users. Everything else that escapes is a defect of ours."""


class EvliftError(Exception):
    """Base class: the command line prints its message without a traceback and exits with 1."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work in good order.

    Args:
        message: what to say.
        signal_number: SIGINT or SIGTERM; the command exits with 128 and that, 130 or 143.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)
        self.exit_code = 128 + signal_number

    def __str__(self) -> str:
        return str(self.args[0])


class FormatError(EvliftError, ValueError):
    """A file or stream is not what its format says, or is of no known format."""


class DataError(EvliftError, ValueError):
    """A data set, manifest or cache is missing something or contradicts itself."""


class ConfigError(EvliftError, ValueError):
    """Settings that are unknown or contradict each other, found before any work starts."""
