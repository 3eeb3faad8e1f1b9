"""Whether a listener has heard fewer exits than the kernel counted."""

from typing import Any

from taskstats import host
from taskstats.exit_stats import ExitStats
from taskstats.exits import ExitListener

_SLACK = 16  # tasks that were between their record and their end when counting began
_SLACK_EACH_CPU = 2
_SHARE = 100  # and one in so many


class CountedListener(ExitListener):
    """A listener that reads the kernel's own count of exits within the time that it listens.

    The kernel counts a task when it is reaped, some time after its record. So each task of this
    count was heard, but for those that had sent their record when the listener was opened. The
    witness of `stats` is read outside of that time: opening the probe can take seconds.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._count_at_stop: int | None = None
        super().__init__(*arguments, **settings)
        self._leaving = host.leaving_tasks()
        self._count_at_start = self._read_count()

    def stop(self) -> None:
        """As ExitListener does, after a last look at the kernel's count."""
        if not self.closed and self._count_at_stop is None:
            self._count_at_stop = self._read_count()
        super().stop()

    def _read_count(self) -> int | None:
        try:
            return host.exits_by_the_books()
        except OSError:  # no descriptor left
            return None

    def unheard(self, stats: ExitStats) -> tuple[int, int] | None:
        """Return how many exits are missing without a trace, and how many the kernel counted.

        None if none can be proven to be missing: with a filter, on some of the CPUs, where /proc
        hides processes, and within what is tolerated.
        """
        begun, ended = self._count_at_start, self._count_at_stop
        if self._filters or stats.witness is None:
            return None
        if begun is None or ended is None or self._leaving is None:
            return None
        heard = stats.received + stats.lost + stats.truncated + stats.malformed
        counted = ended - begun
        slack = _SLACK + _SLACK_EACH_CPU * len(self.cpus) + counted // _SHARE
        missing = counted - heard
        return (missing, counted) if missing > slack + self._leaving else None


def remark(missing: int, counted: int) -> str:
    """Return what to say of missing exits."""
    return (
        f"incomplete: of {counted} exits that the kernel counted, {missing} were neither received "
        "nor lost. Another program may have ended this registration: start again"
    )
