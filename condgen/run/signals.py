"""Ctrl-C ends a command in an orderly way; one more within a second is the same one, and a later one ends it at once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME = 1.0
"""Seconds within which a further Ctrl-C belongs to the one before: keys bounce, and a terminal sends to a whole group."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt once inside the block; where signals cannot be listened to, leave them as they are."""
    first = 0.0

    def receive(signum: int, frame: FrameType | None) -> None:
        nonlocal first
        if not first:
            first = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - first > SAME:
            os._exit(128 + signum)

    try:
        before = signal.signal(signal.SIGINT, receive)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
