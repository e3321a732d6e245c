"""Where commands and runs say what they have to say: standard output, whoever reads it."""

import io
import logging
import os
import sys


def speak() -> None:
    """Send messages to standard output; what its encoding lacks becomes a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    logging.basicConfig(format="%(message)s", handlers=[_Output(sys.stdout)])


class _Output(logging.StreamHandler):
    """Standard output that may be closed, as by `head`: the work goes on without a reader."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing more if nobody reads; report any other failure as logging does."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        else:
            super().handleError(record)
