"""The one kind of error that a user is meant to read."""


class CondgenError(ValueError):
    """A mistake in what was asked for, told in one sentence: what is wrong, where, and what would be right.

    Commands print the sentence alone and exit with a non-zero status; every other exception is a defect of the program, whose
    traceback goes into a file for a report (`condgen.crash`).
    """


class NotMeasured(CondgenError):
    """An objective that no run of this configuration measures: a search over it would be in vain."""
