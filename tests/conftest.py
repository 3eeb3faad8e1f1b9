"""What all tests share."""

import signal

from hypothesis import HealthCheck, settings

# A busy machine may be slow to make an example, or to run it. Neither is a failure.
settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no deadline")


def pytest_configure() -> None:
    """A shell that runs something in the background lets it ignore these, and tests send them."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
