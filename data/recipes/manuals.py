"""Manuals as pictures of their pages: a section's title asks for the page it begins on.

    pip install 'pypdfium2>=5,<6'
    python -m data.recipes.manuals [--languages en de …]

From Debian's `installation-guide-amd64` (18 languages) and `debian-reference-en`, both under the
GPL, by Debian's documentation teams. Built on your machine, not to be passed on without that
licence.

The only positive is the page where a section begins. Were all its pages positives, each page would
tie a section to the next, and the whole book would go to one split. English alone is the default:
with several languages, translations of the right page count as wrong. Titles that a book has twice
are left out, since nobody can tell which is meant.
"""

import gzip
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data.recipes.common import FetchError, Row, fetch_debian, run_recipe

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

PAGE_HEIGHT = 896  # pixels; 735 tokens an A4 page, and print stays readable
_BOOK = re.compile(r"(?P<book>[\w-]+)\.(?P<language>\w+)\.pdf(\.gz)?")


def build(unpacked: Path, output: Path, languages: Collection[str]) -> Iterator[Row]:
    """Render the pages on which sections begin, and yield the rows that ask for them."""
    try:
        from pypdfium2 import PdfDocument  # only this recipe needs it
    except ImportError as error:
        what = "manuals: needs pypdfium2, which is not here"
        raise FetchError(f"{what}; got {error}; run pip install 'pypdfium2>=5,<6'") from error
    (output / "images").mkdir(exist_ok=True)
    rendered: set[str] = set()
    for file in sorted((unpacked / "usr/share").rglob("*.pdf*")):
        name = _BOOK.fullmatch(file.name)
        if not name or (languages and name["language"] not in languages):
            continue
        content = file.read_bytes()
        book = PdfDocument(gzip.decompress(content) if file.suffix == ".gz" else content)
        for title, page in sections(outline(book)):
            image = f"images/{name['book']}.{name['language']}.{page + 1:03}.png"
            if image not in rendered:
                rendered.add(image)
                scale = PAGE_HEIGHT / book[page].get_height()
                book[page].render(scale=scale).to_pil().convert("L").save(output / image)
            yield {
                "query": title,
                "positive_image": image,
                "source": f"manuals-{name['book']}",
                "metadata": {"lang": name["language"], "license": "GPL-2+"},
            }


def outline(book: "PdfDocument") -> Iterator[tuple[str, int]]:
    """Yield the entries of a PDF's outline with the index of their page."""
    for entry in book.get_toc():
        if (target := entry.get_dest()) is not None:
            yield entry.get_title(), target.get_index()


def sections(entries: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the entries whose title stands there once and says something."""
    entries = [(" ".join(title.split()), page) for title, page in entries]
    counts = Counter(title for title, _ in entries)
    return [(title, page) for title, page in entries if title and counts[title] == 1]


if __name__ == "__main__":
    run_recipe(
        "manuals",
        build,
        packages=["installation-guide-amd64", "debian-reference-en"],
        fetch=fetch_debian,
        languages=["en"],
    )
