"""What all tests share."""

import signal


def pytest_configure() -> None:
    """A shell that runs something in the background lets it ignore these, and tests send them."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
