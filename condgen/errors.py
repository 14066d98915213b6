"""The one kind of error that a user is meant to read."""


class CondgenError(ValueError):
    """A mistake in what was asked for, told in one sentence: what is wrong, where, and what would be right.

    Commands print the sentence alone and exit with a non-zero status; every other exception keeps its traceback,
    because it is a defect of the program.
    """
