"""Write the HTML page of a finished run: figures, curves, and queries with what is found for them.

`train.py` makes it at the end of every run with an evaluation set; this makes it anew. The page
stands alone and loads nothing, and holds small copies of the pictures and texts it shows.
"""

import argparse
import logging
from pathlib import Path

from jina.retrieval.report import write_report
from jina.retrieval.report_page.run_record import ReportError

BAD_INPUT = (ReportError,)

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="training.output_dir of a run")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: RUN_DIR/run/report.html)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    logger.info("Wrote %s", write_report(options.run, output=options.output))
    return 0
