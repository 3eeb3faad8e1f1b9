"""What all tests share."""

import signal


def pytest_configure() -> None:
    """A shell that runs something in the background lets it ignore SIGINT, and tests send that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
