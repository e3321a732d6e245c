"""How far a long job is: done, rate, time left, and how many images need attention."""

import logging
import time

logger = logging.getLogger("smartembed")


class Progress:
    """Logs a line whenever a piece of work is done.

    Args:
        total: How many items there are to do.
        what: What they are called.
    """

    def __init__(self, total: int, what: str = "items") -> None:
        self._total, self._what = total, what
        self._start, self._done = time.monotonic(), 0

    def advance(self, count: int, *, attention: int = 0) -> None:
        """Count items as done.

        Args:
            count: How many more.
            attention: How many images needed attention so far.
        """
        self._done += count
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        left = duration((self._total - self._done) / rate)
        images = f", {attention:,} images need attention" if attention else ""
        done = f"{self._done:,} of {self._total:,} {self._what}"
        logger.info("%s, %.1f a second, %s left%s", done, rate, left, images)


def duration(seconds: float) -> str:
    """Return a time as `3 h 20 min`, `5 min 10 s` or `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
