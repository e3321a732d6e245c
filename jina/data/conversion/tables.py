"""Text tables with a header line, comma or tab between the cells, quoted as spreadsheets do.

An empty cell is no value. Rows are numbered by the line they begin on, as an editor shows it.
"""

import codecs
import csv
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from jina.data.conversion.sources import ConvertError, Source, SourceRow, bad_row, describe
from jina.data.records import MAX_LINE_BYTES, RecordError, read_lines

_SAVE_AS_UTF8 = "save the file as UTF-8"


def read_csv(path: Path) -> Source:
    """Read a table with commas between its cells."""
    return _read_table(path, ",")


def read_tsv(path: Path) -> Source:
    """Read a table with tabs between its cells."""
    return _read_table(path, "\t")


def _read_table(path: Path, delimiter: str) -> Source:
    """Read the header now and the rows below it later."""
    with path.open("rb") as stream:
        has_mark = stream.read(3) == codecs.BOM_UTF8
    header = _header(path, delimiter)

    def read(_: Collection[str]) -> Iterator[SourceRow | RecordError]:
        """Yield the rows below the header."""
        reader = _reader(path, delimiter)
        next(reader)
        return _rows(path, reader, header)

    note = f"{path} begins with a byte order mark, which was left out."
    return Source(tuple(header), read, path.parent, notes=(note,) if has_mark else ())


def _reader(path: Path, delimiter: str) -> Iterator[list[str]]:
    """Return a csv reader that goes on after a bad row and counts lines in `line_num`."""
    return csv.reader(_decoded_lines(path), delimiter=delimiter, strict=True)


def _decoded_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a table; bytes that are not UTF-8 become surrogates, told of later."""
    for _, number, raw in read_lines(path):
        if len(raw) > MAX_LINE_BYTES:
            what = f"is longer than {MAX_LINE_BYTES:,} bytes"
            remedy = "write one row a line"
            raise ConvertError(describe(f"{path}:{number}: line", what, raw[:80], remedy))
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        yield raw.decode("utf-8", "surrogateescape")


def _header(path: Path, delimiter: str) -> list[str]:
    """Return the names of the columns; refuse those by which cells could not be told apart."""
    where, problems = f"{path}:1: header", []
    first = next(_decoded_lines(path), "")
    if not _is_utf8([first]):
        raise ConvertError(describe(where, "is not UTF-8", first, _SAVE_AS_UTF8))
    reader = _reader(path, delimiter)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise ConvertError(_bad_quoting(path, error, first=1, last=reader.line_num)) from error
    if not header:
        problems.append(describe(where, "is missing", header, "begin with the columns' names"))
    for name, count in Counter(header).items():
        if count > 1 or not name.strip():
            what = f"names {count} columns {name!r}"
            problems.append(describe(where, what, header, "give each column a name of its own"))
    if problems:
        raise ConvertError(*problems)
    return header


def _rows(
    path: Path, reader: Iterator[list[str]], header: list[str]
) -> Iterator[SourceRow | RecordError]:
    """Yield what stands below the header."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield RecordError(_bad_quoting(path, error, first=line, last=reader.line_num))
        else:
            yield _row(path, line, cells=cells, header=header)


def _bad_quoting(path: Path, error: csv.Error, *, first: int, last: int) -> str:
    """Describe a row that the csv reader gave up on."""
    what = f"cannot be read as a row ({error}); got lines {first} to {last}"
    return f'{path}:{first}: line: {what}; quote whole cells, and double each " in them'


def _row(path: Path, line: int, *, cells: list[str], header: list[str]) -> SourceRow | RecordError:
    """Put the cells of one row under the names of the header."""
    where = f"{path}:{line}: line"
    if not cells:
        return bad_row(where, "is blank", cells, "delete it")
    if len(cells) != len(header):
        what = f"has {len(cells)} cells where the header has {len(header)}"
        return bad_row(where, what, cells, "quote cells that hold the delimiter, write empty ones")
    if not _is_utf8(cells):
        return bad_row(where, "is not UTF-8", cells, _SAVE_AS_UTF8)
    values = (cell or None for cell in cells)
    return SourceRow(str(path), line, dict(zip(header, values, strict=True)))


def _is_utf8(cells: list[str]) -> bool:
    """Tell whether cells hold no byte that could not be decoded."""
    try:
        "".join(cells).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
