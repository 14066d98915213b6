"""The one kind of error that a user is meant to read."""

from typing import Any


class CondgenError(ValueError):
    """A mistake in what was asked for, told in one sentence: what is wrong, where, and what would be right.

    Commands print the sentence alone and exit with a non-zero status; every other exception is a defect of the program, whose
    traceback goes into a file for a report (`condgen.run.crash`).
    """


class Interrupted(CondgenError):
    """A signal ended the command, after what there was to save was saved.

    Args:
        message: what to tell the user.
        signum: the signal.
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum

    def __reduce__(self) -> tuple[Any, ...]:
        """Pass from process to process."""
        return type(self), (str(self), self.signum)


class NotMeasured(CondgenError):
    """An objective that no run of this configuration measures: a search over it would be in vain."""
