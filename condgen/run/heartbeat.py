"""Signs of life: what is done again and again beside the work, from a thread of its own."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeating(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Call ``act``, which must not raise, every so many ``seconds`` until the block is left; the first time after them."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
