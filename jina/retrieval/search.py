"""Ask an index: a text, an image or both in, a table of what scores highest out.

query ─ the index's model, role query ─► vectors ─ store.find ─► hits ─ table
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jina.data.image_loading import ImageError, image_size
from jina.data.records import Item
from jina.retrieval.corpus import CorpusItem, is_unicode
from jina.retrieval.corpus_embedding import CorpusEmbedder
from jina.retrieval.errors import RetrievalError
from jina.retrieval.index import settings_of
from jina.retrieval.stores import Hit, Store

WIDTH = 72


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to look for.

    Attributes:
        text: A text, or None.
        image: An image file, or None; with a text it is one query of both.
        top: How many results to return.
        candidates: How many the single vector chooses for the multi vectors to rank; 0 for no
            reranking.
    """

    text: str | None = None
    image: Path | None = None
    top: int = 10
    candidates: int = 100

    def check(self) -> None:
        """Raise `RetrievalError` with all that is wrong."""
        problems = []
        if not (self.text or "").strip() and self.image is None:
            problems.append(f"query: is empty; got {self.text!r}; give --text, --image or both")
        elif not is_unicode(self.text or ""):
            problems.append(f"query: is not UTF-8; got {self.text!r}; type it in another terminal")
        if self.image is not None:
            try:
                image_size(self.image)
            except ImageError as error:
                problems.append(f"--image: {error}")
        if self.top < 1:
            problems.append(f"--top: is too small; got {self.top}; give 1 or more")
        if self.candidates < 0:
            problems.append(f"--rerank: is too small; got {self.candidates}; give 0 or more")
        if problems:
            raise RetrievalError(*problems)


def search(question: Question, store: Store, *, model: Path, cache: Path | None) -> list[Hit]:
    """Find what answers a question.

    Args:
        question: What to look for.
        store: Where.
        model: The checkpoint that the index was made with.
        cache: See `model_fingerprint`.

    Raises:
        RetrievalError: If the question is none, or the model another.
    """
    question.check()
    settings = replace(settings_of(store.settings, model, cache), role="query")
    if not question.candidates:
        settings = replace(settings, vectors=("single",))
    image = None if question.image is None else str(question.image.absolute())
    item = CorpusItem("query", Item(question.text, image))
    batch, _ = CorpusEmbedder(settings).embed([item], None)
    return store.find(
        batch.single[0],
        batch.multi[0] if batch.multi else None,
        top=question.top,
        candidates=question.candidates,
    )


def table(hits: Sequence[Hit]) -> str:
    """Return hits as lines for the terminal: rank, score, id, the image's path and the text.

    Paths below the working folder are shown from there.
    """
    if not hits:
        return "Nothing found: the index is empty."
    ids = [_cut(hit.entry.id, 32) for hit in hits]
    wide = max(map(len, ["id", *ids]))
    lines = [f"rank   score  {'id':{wide}}  what"]
    for rank, (hit, id) in enumerate(zip(hits, ids, strict=True), start=1):
        what = "  ".join(filter(None, (_shown_path(hit.entry.image), _cut(hit.entry.text, WIDTH))))
        lines.append(f"{rank:4}  {hit.score:6.3f}  {id:{wide}}  {what}")
    return "\n".join(lines)


def json_lines(hits: Sequence[Hit]) -> str:
    """Return hits as one JSON object a line."""
    return "\n".join(
        json.dumps({"rank": rank, "score": hit.score, **vars(hit.entry)}, ensure_ascii=False)
        for rank, hit in enumerate(hits, start=1)
    )


def _shown_path(image: str | None) -> str:
    """Return an image's path as the user would type it here."""
    path = Path(image or "")
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else image or "")


def _cut(text: str | None, width: int) -> str:
    """Return a text on one line, printable and not too long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text or "")
    return line if len(line) <= width else f"{line[: width - 1]}…"
