"""The errors that Withhold raises on purpose, and the exit code that each one means."""


class WithholdError(Exception):
    """Base of every error with a message for the user: expected, got, remedy."""

    exit_code = 2


class InvalidInput(WithholdError):
    """An argument, dataset, surrogate or file is not usable; nothing was started."""


class RunStopped(WithholdError):
    """A run could not go on (disk full, source changed); its finished work is kept and it can be resumed."""

    exit_code = 3


class StoreFailed(RunStopped):
    """An object store did not do what it was asked for, however often; what it holds of a run stays whole."""
