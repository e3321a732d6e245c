"""What is to be embedded: JSONL, lines of text, or a folder of images; one item after the other.

    FILE.jsonl ─ "text", "image", "id", "metadata" ─┐
    FILE.jsonl, side ─ that side of training rows ──┼─► CorpusItem, CorpusItem, …
    FILE.txt ─ one text a line ─────────────────────┤
    folder ─ every image below it ──────────────────┘

The kind is told by the suffix and never by looking. `open_corpus` reads everything once, with the
headers of all images, so that all that is wrong is said before anything is embedded; after that
the items are read again one by one, and memory holds their ids alone.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from jina.data.checking.line_chunks import new_digest
from jina.data.checking.row_check import stamp_of
from jina.data.conversion.image_folder import IMAGE_SUFFIXES
from jina.data.conversion.sources import describe
from jina.data.image_loading import ImageError, image_size
from jina.data.records import (
    SIDES,
    Item,
    RecordError,
    parse_corpus_line,
    parse_line,
    read_lines,
)
from jina.data.validation import image_root, readable
from jina.retrieval.errors import RetrievalError

Found = Iterator["CorpusItem | RecordError"]


@dataclass(frozen=True)
class CorpusItem:
    """One thing to embed, under an id that no other item of its corpus has.

    Attributes:
        id: As the row has it, else `file:line`, or the path of an image within its folder.
        item: Text, image path or both.
        metadata: Carried along.
    """

    id: str
    item: Item
    metadata: dict[str, object] | None = None


@dataclass(frozen=True)
class Corpus:
    """A source that was read to its end and is sound.

    Attributes:
        source: The file or folder.
        root: The absolute folder that image paths start from and stay in.
        side: The side of training rows that counts, None for other kinds of sources.
        rows: How many items there are.
        digest: Of the file's bytes, and of name, size and time of each image.
    """

    source: Path
    root: Path
    side: str | None
    rows: int
    digest: str

    def __iter__(self) -> Iterator[CorpusItem]:
        for found in _read(self.source, self.side):
            if isinstance(found, RecordError):
                raise RetrievalError(*found.problems)
            yield found

    def __len__(self) -> int:
        return self.rows


def open_corpus(
    source: Path | str, *, side: str | None = None, image_base_dir: Path | str | None = None
) -> Corpus:
    """Check a source to its end.

    Args:
        source: A `.jsonl` or `.txt` file, or a folder of images.
        side: `query`, `positive` or `negative` for training rows, None for a corpus.
        image_base_dir: The folder image paths start from; by default that of the file.

    Raises:
        RetrievalError: With everything that is wrong with the source.
    """
    source = Path(source)
    _check_kind(source, side)
    root = source.absolute() if source.is_dir() else image_root(source, image_base_dir)
    digest = new_digest()
    problems: list[str] = []
    seen: set[str] = set()
    stamped: set[str] = set()
    if source.is_file():
        with source.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    bar = {"desc": "checking", "unit": " items", "leave": False, "disable": None}
    for found in tqdm(_read(source, side), **bar):
        if isinstance(found, RecordError):
            problems += found.problems
            continue
        if found.id in seen:
            what, remedy = "stands twice in the corpus", "give each item an id of its own"
            problems.append(describe(f"{source}: id", what, found.id, remedy))
        seen.add(found.id)
        image = found.item.image
        if image is not None and image not in stamped:
            stamped.add(image)
            digest.update(repr((image, stamp_of(root, image))).encode("utf-8", "surrogateescape"))
            problems += _image_problems(root, found.id, image)
    if not seen and not problems:
        problems.append(describe(str(source), "holds nothing to embed", "no items", "add some"))
    if problems:
        raise RetrievalError(*problems)
    return Corpus(source, root, side, len(seen), digest.hexdigest())


def is_unicode(text: str) -> bool:
    """Tell whether a word from the system, which may be any bytes, is a text."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_kind(source: Path, side: str | None) -> None:
    """Refuse what is no source."""
    if not source.is_dir():
        readable([source])
        if source.suffix not in (".jsonl", ".txt"):
            remedy = "give FILE.jsonl, FILE.txt or a folder of images"
            raise RetrievalError(describe(str(source), "is of no known kind", source.name, remedy))
    if side is not None and (side not in SIDES or source.suffix != ".jsonl"):
        remedy = f"name {', '.join(SIDES)}, for JSONL training rows alone"
        raise RetrievalError(describe(f"{source}: --side", "cannot be read", side, remedy))


def _image_problems(root: Path, where: str, image: str) -> list[str]:
    """Return what the header of an image has against it."""
    try:
        image_size(image, root=root)
    except ImageError as error:
        return [f"{where}: {error}"]
    return []


def _read(source: Path, side: str | None) -> Found:
    """Yield the items of a source, and in its place the error for what is none."""
    if source.is_dir():
        return _folder_items(source)
    if source.suffix == ".txt":
        return _text_items(source)
    return _row_items(source) if side is None else _side_items(source, side)


def _row_items(source: Path) -> Found:
    """Yield the items of a corpus in JSON lines."""
    for _, number, raw in read_lines(source):
        try:
            row = parse_corpus_line(raw, file=source, line=number)
        except RecordError as error:
            yield error
        else:
            yield CorpusItem(row.id or f"{source.name}:{number}", row.item, row.metadata)


def _side_items(source: Path, side: str) -> Found:
    """Yield the items on one side of training rows; those of a list are told by their place."""
    for _, number, raw in read_lines(source):
        try:
            sample = parse_line(raw, file=source, line=number)
        except RecordError as error:
            yield error
            continue
        items = {
            "query": (sample.query,),
            "positive": sample.positives,
            "negative": sample.negatives,
        }[side]
        for index, item in enumerate(items):
            place = f"[{index}]" if len(items) > 1 else ""
            yield CorpusItem(f"{source.name}:{number}{place}", item, sample.metadata)


def _text_items(source: Path) -> Found:
    """Yield the lines of a text file."""
    for _, number, raw in read_lines(source):
        where = f"{source}:{number}: text"
        try:
            text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            got = raw[max(error.start - 10, 0) : error.end + 10]
            yield RecordError(describe(where, "is not UTF-8", got, "save the file as UTF-8"))
            continue
        if text.strip():
            yield CorpusItem(f"{source.name}:{number}", Item(text=text))
        else:
            yield RecordError(describe(where, "is blank", text, "delete the line"))


def _folder_items(source: Path) -> Found:
    """Yield all images below a folder, told by their suffix, in the order of their paths."""
    files = []
    for folder, subfolders, names in os.walk(source):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    for file in sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES):
        name = file.relative_to(source).as_posix()
        if is_unicode(name):
            yield CorpusItem(name, Item(image=name))
        else:
            what, remedy = "has a name that is not UTF-8", "rename the file"
            yield RecordError(describe(str(source), what, name, remedy))
