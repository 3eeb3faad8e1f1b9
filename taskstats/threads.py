"""Threads of our own."""

import errno
import signal
import threading

from taskstats.errors import from_errno


def start_without_signals(thread: threading.Thread) -> None:
    """Start a thread that blocks all signals, which stay with the other threads.

    Raises:
        TaskstatsError: There can be no more threads.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    except RuntimeError as error:
        raise from_errno("monitor", errno.EAGAIN, "thread") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
