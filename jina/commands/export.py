"""Export a checkpoint for sentence-transformers, transformers, vLLM or the official code.

What was written is reloaded in a fresh process and compared with the checkpoint on the texts and
images of a JSONL file; an export that falls short isn't kept.
"""

import argparse
import json
import logging
from pathlib import Path

from jina.data.image_loading import ImageError
from jina.data.validation import DataError
from jina.export.export_settings import FORMATS, Export, ExportError
from jina.export.exporting import export
from jina.export.reload import ReloadError
from jina.models.checkpoint import CheckpointError
from jina.models.configuration_jina_embeddings_v4 import TASK_NAMES
from jina.retrieval.item_embedding import EmbeddingError

BAD_INPUT = (CheckpointError, DataError, EmbeddingError, ExportError, ImageError, ReloadError)
DEMO_ROWS = Path(__file__).parents[2] / "data/demo/eval.jsonl"

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    parser.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="a checkpoint folder"
    )
    parser.add_argument(
        "--format", choices=FORMATS, required=True, metavar="FORMAT", help=", ".join(FORMATS)
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--task", choices=TASK_NAMES, default="retrieval", help="the adapter (default: retrieval)"
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the weights (default: auto, the checkpoint's)",
    )
    parser.add_argument(
        "--exact", action="store_true", help="sentence-transformers: our pooling, as remote code"
    )
    parser.add_argument(
        "--tensor-names",
        choices=("old", "new"),
        default="old",
        help="merged: as in Qwen's files (default), or as transformers 5 has them in memory",
    )
    parser.add_argument(
        "--parity-rows",
        type=Path,
        default=DEMO_ROWS,
        metavar="FILE",
        help="rows to check with (default: the demo's)",
    )
    parser.add_argument(
        "--image-base-dir", type=Path, metavar="DIR", help="where relative image paths start"
    )
    parser.add_argument(
        "--parity-items", type=int, default=16, metavar="N", help="texts and images (default: 16)"
    )
    parser.add_argument(
        "--min-cosine",
        type=float,
        metavar="X",
        help="bound of the check (default: 0.999999 for float32, 0.999 for 16 bits)",
    )
    parser.add_argument("--allow-loss", action="store_true", help="keep what fails the check")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of the check")


def run(options: argparse.Namespace) -> int:
    """Export and tell what the check found."""
    report = export(
        Export(
            model=options.model,
            format=options.format,
            output=options.output,
            task=options.task,
            dtype=options.dtype,
            exact=options.exact,
            new_names=options.tensor_names == "new",
            rows=options.parity_rows,
            image_base_dir=options.image_base_dir,
            limit=options.parity_items,
            minimum=options.min_cosine,
            allow_loss=options.allow_loss,
        )
    )
    logger.info("Wrote %s; its README.md says how to load it.", options.output)
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    return 0
