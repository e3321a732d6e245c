"""`write_report`: a run on one HTML page that needs nothing else, and asks the network for nothing.

    run/, eval/ ─► RunRecord, Evaluations ─► charts, tables ─┐
    held-out rows ─► Examples ─► Pictures ───────────────────┴─ template ─► run/report.html

A failure leaves the run as it is: whoever calls decides what it means.
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jina.data.multimodal_dataset import DataError, MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.durable_files import publish
from jina.retrieval.item_collections import ItemReader
from jina.retrieval.report_page.charts import FRAME
from jina.retrieval.report_page.evaluations import Evaluations, Group
from jina.retrieval.report_page.examples import Examples, choose_examples, negatives_of
from jina.retrieval.report_page.page_parts import curves, gallery_of, histograms
from jina.retrieval.report_page.pictures import Pictures
from jina.retrieval.report_page.run_record import (
    MATCHES_FILE,
    REPORT_FILE,
    ReportError,
    RunRecord,
    open_rows,
)
from jina.retrieval.token_matches import TokenMatches, match_tokens

TEMPLATES = Path(__file__).parent / "report_page"
HEAT_MAPS = 4  # pairs of a text and a picture
DIRECTIONS = 6  # of the gallery; more would make a page that no phone opens

logger = logging.getLogger("smartembed")


def write_report(
    folder: Path, *, output: Path | None = None, dataset: MultimodalDataset | None = None
) -> Path:
    """Write the page of a finished run.

    Args:
        folder: of the run, `training.output_dir`.
        output: the file; by default `run/report.html` in the folder.
        dataset: the held-out rows, where they are open already. Where they have gone the page has
            no gallery, and says so.

    Returns:
        The file.

    Raises:
        ReportError: the run isn't complete, or the page can't be written.
    """
    output = output or folder / REPORT_FILE
    record, evaluations = RunRecord.read(folder), Evaluations.read(folder)
    problem = None
    if dataset is None:
        try:
            dataset = open_rows(record.facts.get("rows", {}))
        except (DataError, OSError) as error:
            problem = f"The gallery is left out: {str(error).splitlines()[0]}"
            logger.warning("%s", problem)
    found = [] if dataset is None else examples_of(evaluations, ItemReader(dataset))
    pictures = None if dataset is None else Pictures(ItemReader(dataset))
    matches = read_matches(folder / MATCHES_FILE)
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            name=folder.absolute().name,
            record=record,
            evaluations=evaluations,
            frame=FRAME,
            charts=curves(record.history),
            chosen=found,
            histograms=[histograms(examples) for examples in found],
            galleries=[gallery_of(examples, pictures, matches) for examples in found],
            problem=problem,
        )
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        publish(output, lambda path: path.write_text(page, encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{output}: can't be written; got {error}; name another file") from error
    return output


def examples_of(evaluations: Evaluations, reader: ItemReader) -> list[Examples]:
    """Choose the queries to show of each direction that was ranked, of many only the first."""
    negatives = negatives_of(reader)
    groups = [group for group in evaluations.groups() if group.kind == "ranking"][:DIRECTIONS]
    return [choose_examples(evaluations, group, negatives) for group in groups]


def write_matches(
    model: JinaEmbeddingsV4Model, folder: Path, dataset: MultimodalDataset
) -> list[TokenMatches]:
    """Compare texts and pictures of the gallery token by token, while the model is in memory.

    Args:
        model: the trained one; left as it is.
        folder: of the run, with both evaluations.
        dataset: the held-out rows.

    Raises:
        ReportError: an evaluation can't be read.
        ImageError: a picture can't be read.
    """
    reader = ItemReader(dataset)
    found: list[TokenMatches] = []
    for examples in examples_of(Evaluations.read(folder), reader):
        pairs, role = text_and_picture(examples)
        pairs = pairs[: HEAT_MAPS - len(found)]
        names = sorted({name for pair in pairs for name in pair})
        items = reader.read(int(name, 16) for name in names)
        read = dict(zip(names, items, strict=True))
        found += match_tokens(model, pairs, read, task=examples.group.task, role=role)
    text = json.dumps([matches.as_dict() for matches in found], ensure_ascii=False)
    (folder / MATCHES_FILE).write_text(text, encoding="utf-8")
    return found


def text_and_picture(examples: Examples) -> tuple[list[tuple[str, str]], str]:
    """Return a text and a picture of each example that belong together, and the texts' role."""
    asked = _sides(examples.group)
    if set(asked) != {"text", "image"}:
        return [], "query"
    pairs = [
        (example.query, next(found.document for found in example.answers[0] if found is not None))
        for example in examples.queries
        if example.answers
    ]
    if asked[0] == "text":
        return pairs, "query"
    return [(document, query) for query, document in pairs], "passage"


def _sides(group: Group) -> list[str]:
    return group.direction.split("→")


def read_matches(file: Path) -> list[TokenMatches]:
    """Read what `write_matches` wrote; nothing where vectors were single.

    Raises:
        ReportError: the file is damaged.
    """
    if not file.is_file():
        return []
    try:
        values: Iterable[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return [TokenMatches.from_dict(one) for one in values]
    except (OSError, ValueError, TypeError, ZeroDivisionError) as error:
        raise ReportError(f"{file}: can't be read; got {error!r}; train anew") from error


def _environment() -> Environment:
    """Return a template engine that escapes everything and knows no name by chance."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
