"""Turn one JSONL line into a checked `Sample`, or into every problem it has.

    bytes of a line ─ parse_line ─► Sample | RecordError("train.jsonl:7: positive: is blank; …", …)

The contract is written down for users in data/README.md. A line passes three gates: sound bytes,
sound JSON, sound fields; each gate reports all it finds before it closes. Nothing is guessed: a
string in a text field is text even if it looks like a path, an unknown field is an error. Images
are only named here; `image_loading` opens them.
"""

import codecs
import difflib
import json
import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

TASKS = ("retrieval", "text-matching", "code")
DEFAULT_TASK = "retrieval"
SIDES = ("query", "positive", "negative")
FIELDS = (
    *(name for side in SIDES for name in (side, f"{side}_image")),
    *("score", "task", "source", "id", "metadata"),
)
CORPUS_FIELDS = ("id", "text", "image", "metadata")
MAX_LINE_BYTES = 16 * 2**20
MAX_SCORE = 5

# The parts of a problem are (field, what is wrong, the value found, what to do).
Parts = Sequence[tuple[str, str, str, str]]
Report = Callable[[str, str, object, str], None]
Parsed = TypeVar("Parsed")

_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_INVISIBLE_CATEGORIES = {"Zs", "Zl", "Zp", "Cc", "Cf"}
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@dataclass(frozen=True)
class Item:
    """One thing to embed: a text, an image (its path as the file has it), or both."""

    text: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Sample:
    """One line of a training file: what is asked, what should be found, what should not."""

    query: Item
    positives: tuple[Item, ...]
    negatives: tuple[Item, ...]
    task: str | None
    source: str | None
    score: float | None
    id: str | None
    metadata: dict[str, object] | None = field(hash=False)
    file: str
    line: int

    @property
    def where(self) -> str:
        """Return `file:line`, as error messages print it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class CorpusRow:
    """One line of a corpus: a single thing to be found, with what is carried along."""

    item: Item
    id: str | None
    metadata: dict[str, object] | None = field(hash=False)


class RecordError(ValueError):
    """A line that breaks the contract; `problems` holds one message for each thing wrong with it.

    Each reads `file:line: field: what is wrong; got …; what to do`; `parts` has the last four.
    """

    def __init__(self, *problems: str, file: str = "", line: int = 0, parts: Parts = ()) -> None:
        # The messages alone are the arguments, so that the error survives pickling.
        super().__init__(*problems)
        self.problems = list(problems)
        self.file, self.line, self.parts = file, line, parts

    def __str__(self) -> str:
        return "\n".join(self.problems)


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    r"""Yield (byte offset, line number, bytes) of each line, which only `\n` ends.

    `str.splitlines` would also cut at U+2028 or U+0085 inside a text. Of an overlong line no more
    than `parse_line` needs to refuse it is kept.
    """
    with path.open("rb") as stream:
        number = offset = 0
        while raw := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            yield offset, number, raw
            while not raw.endswith(b"\n") and (raw := stream.readline(MAX_LINE_BYTES)):
                pass
            offset = stream.tell()


def read_samples(path: Path | str) -> Iterator[Sample | RecordError]:
    """Yield what each line of a JSONL file holds: a sample, or the error that describes it."""
    for _, number, raw in read_lines(Path(path)):
        try:
            yield parse_line(raw, file=path, line=number)
        except RecordError as error:
            yield error


def parse_line(raw: bytes, *, file: Path | str, line: int) -> Sample:
    """Read one JSONL line; raise `RecordError` with everything that is wrong with it."""
    return _parse(
        raw, lambda row, report: _read_row(row, report, file=str(file), line=line), file, line
    )


def parse_corpus_line(raw: bytes, *, file: Path | str, line: int) -> CorpusRow:
    """Read a line `{"text": …, "image": …, "id": …, "metadata": …}` of a corpus, as strictly."""
    return _parse(raw, _read_corpus_row, file, line)


def _parse(
    raw: bytes, read: Callable[[dict[str, object], Report], Parsed], file: Path | str, line: int
) -> Parsed:
    """Take a line through the three gates, the last of which is `read`."""
    parts: list[tuple[str, str, str, str]] = []

    def report(name: str, what: str, got: object, remedy: str) -> None:
        """Write down a problem."""
        parts.append((name, what, _short.repr(got), remedy))

    row = _decode(raw, report)
    if not parts:
        parsed = read(row, report)
    if parts:
        problems = (f"{file}:{line}: {n}: {what}; got {got}; {r}" for n, what, got, r in parts)
        raise RecordError(*problems, file=str(file), line=line, parts=parts)
    return parsed


def _decode(raw: bytes, report: Report) -> dict[str, object]:
    """Take a line from bytes to a JSON object; an empty one where something was reported."""
    if len(raw) > MAX_LINE_BYTES:
        report("line", f"is longer than {MAX_LINE_BYTES:,} bytes", raw[:80], "write one row a line")
    elif raw.startswith(_BYTE_ORDER_MARKS):
        report("line", "has a byte order mark", raw[:3], "save the file as UTF-8 without BOM")
    elif not raw.strip():
        report("line", "is blank", raw, "delete it")
    else:
        try:
            return _load_object(raw.decode("utf-8"), report)
        except UnicodeDecodeError as error:
            got = raw[max(error.start - 10, 0) : error.end + 10]
            report("line", "is not UTF-8", got, "save the file as UTF-8")
        except json.JSONDecodeError as error:
            got = error.doc[max(error.pos - 20, 0) : error.pos + 20]
            what = f"is not JSON ({error.msg}, column {error.colno})"
            report("line", what, got, "write one JSON object a line")
        except RecursionError:
            report("line", "is nested too deeply", raw[:80], "flatten it")
    return {}


def _load_object(text: str, report: Report) -> dict[str, object]:
    """Load JSON by the letter: no NaN, no infinity, no repeated key, no half characters."""

    def read_number(digits: str) -> float:
        """Read what JSON, or Python's idea of it, takes for a number."""
        number = float(digits)
        if not math.isfinite(number):
            report("line", "holds a number that is not finite", digits, "write a finite number")
            return 0
        # A whole number that float() can hold has at most 309 digits, which int() reads at once.
        return number if set(digits) & set(".eE") else int(digits)

    def read_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        """Build an object from its fields in order."""
        row = dict(pairs)
        if len(row) < len(pairs):
            for key, count in (Counter(key for key, _ in pairs) - Counter(row.keys())).items():
                report(_name(key), f"stands {count + 1} times in one object", key, "keep one")
        return row

    row = json.loads(
        text,
        object_pairs_hook=read_object,
        parse_int=read_number,
        parse_float=read_number,
        parse_constant=read_number,
    )
    if not isinstance(row, dict):
        remedy = 'write an object such as {"query_image": "a.jpg", "positive": "a cat"}'
        report("line", "is not a JSON object", row, remedy)
        return {}
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(row, report)
    return row


def _check_surrogates(row: dict[str, object], report: Report) -> None:
    """Report fields with half of an escaped surrogate pair: no tokenizer can encode one."""
    for key, value in row.items():
        try:
            json.dumps([key, value], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            report(_name(key), "holds half a surrogate pair", value, "write the whole character")


def _read_row(row: dict[str, object], report: Report, *, file: str, line: int) -> Sample:
    """Check every field of a JSON object; what it returns is good only if nothing was reported."""
    for key in row:
        if key not in FIELDS:
            report(_name(key), "is not a known field", key, _nearest_field(key, FIELDS))
    # Tools that join tables write null for "this row has none".
    row = {key: value for key, value in row.items() if value is not None}
    for name in ("query", "query_image"):
        if isinstance(row.get(name), list):
            report(name, "is a list", row[name], "write one query a row")
    for side in ("query", "positive"):
        if side not in row and f"{side}_image" not in row:
            report(side, "is missing", sorted(row), f'give "{side}", "{side}_image" or both')
    query, positives, negatives = (_read_side(side, row, report) for side in SIDES)
    _check_options(row, report)
    return Sample(
        query=query[0] if query else Item(),
        positives=positives,
        negatives=negatives,
        task=row.get("task"),
        source=row.get("source"),
        score=row.get("score"),
        id=str(row["id"]) if "id" in row else None,
        metadata=row.get("metadata"),
        file=file,
        line=line,
    )


def _read_corpus_row(row: dict[str, object], report: Report) -> CorpusRow:
    """Check every field of a corpus row; what it returns is good only if nothing was reported."""
    for key in row:
        if key in FIELDS and key not in CORPUS_FIELDS:
            report(_name(key), "belongs to training rows", key, "name its side, as in --side query")
        elif key not in CORPUS_FIELDS:
            report(_name(key), "is not a known field", key, _nearest_field(key, CORPUS_FIELDS))
    row = {key: value for key, value in row.items() if value is not None}
    if "text" not in row and "image" not in row:
        report("text", "is missing", sorted(row), 'give "text", "image" or both')
    for name in ("text", "image"):
        if name in row:
            _check_string(name, row[name], report)
    _check_options(row, report)
    item = Item(row.get("text"), row.get("image"))
    return CorpusRow(item, str(row["id"]) if "id" in row else None, row.get("metadata"))


def _read_side(side: str, row: dict[str, object], report: Report) -> tuple[Item, ...]:
    """Pair the texts of one side with its images: value with value, or list with list."""
    texts, images = row.get(side), row.get(f"{side}_image")
    values = [value for value in (texts, images) if value is not None]
    lists = [value for value in values if isinstance(value, list)]
    if not lists:
        return (_read_item(texts, images, side, "", report),) if values else ()
    if len(lists) < len(values):
        report(side, "mixes a list with a single value", values, "make both lists or neither")
        return ()
    lengths = {len(value) for value in lists}
    if len(lengths) > 1:
        got = [len(texts), len(images)]
        report(side, "has more texts or more images", got, "write null where an item lacks one")
        return ()
    if lengths == {0} and side != "negative":
        report(side, "is an empty list", [], "give at least one item")
    nothing = [None] * lengths.pop()
    pairs = zip(texts or nothing, images or nothing, strict=True)
    return tuple(
        _read_item(text, image, side, f"[{index}]", report)
        for index, (text, image) in enumerate(pairs)
    )


def _read_item(text: object, image: object, side: str, index: str, report: Report) -> Item:
    """Check the text and the image of one item, of which at most one may be None."""
    if text is None and image is None:
        report(f"{side}{index}", "has neither text nor image", None, "give it one or delete it")
    for name, value in ((f"{side}{index}", text), (f"{side}_image{index}", image)):
        if value is not None:
            _check_string(name, value, report)
    return Item(text, image)


def _check_string(name: str, value: object, report: Report) -> None:
    """Report what is no string, and strings that show nothing: their embedding means nothing."""
    if not isinstance(value, str):
        report(name, "is not a string", value, "write a JSON string")
    elif all(unicodedata.category(character) in _INVISIBLE_CATEGORIES for character in value):
        report(name, "has no visible character", value, "fill it or leave it out")


def _check_options(row: dict[str, object], report: Report) -> None:
    """Check the fields that say something about the row as a whole."""
    if "task" in row and row["task"] not in TASKS:
        report("task", "is not a task", row["task"], f"choose one of {', '.join(TASKS)}")
    if "score" in row and not _is_score(row["score"]):
        report("score", f"is not in [0, {MAX_SCORE}]", row["score"], "rescale it or leave it out")
    if "source" in row:
        _check_string("source", row["source"], report)
    if "id" in row and not isinstance(row["id"], str) and type(row["id"]) is not int:
        report("id", "is neither a string nor a whole number", row["id"], "write it as a string")
    if "metadata" in row and not isinstance(row["metadata"], dict):
        report("metadata", "is not an object", row["metadata"], 'write {"name": value}')


def _is_score(value: object) -> bool:
    """Tell whether a value is a number in range; to Python `true` is 1, to us it is not."""
    return type(value) in (int, float) and 0 <= value <= MAX_SCORE


def _name(key: str) -> str:
    """Return a field name fit for a message: printable and not longer than a word."""
    return key if key.isidentifier() and len(key) <= 40 else _short.repr(key)


def _nearest_field(key: str, known: Sequence[str]) -> str:
    """Say which known field an unknown one was probably meant to be."""
    # The cut keeps difflib, which is quadratic, away from keys of a megabyte.
    matches = difflib.get_close_matches(key[:64].lower(), known, n=1)
    return f'did you mean "{matches[0]}"?' if matches else f"known fields: {', '.join(known)}"
