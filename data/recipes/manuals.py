"""Manuals as pictures of their pages: a section's title asks for the page it begins on.

    pip install 'pypdfium2>=5,<6'
    python -m data.recipes.manuals [--languages en de …]

From Debian's `installation-guide-amd64` (18 languages), `debian-reference-en`, `debian-policy` and
`developers-reference`, all under the GPL, by Debian's documentation teams. Built on your machine,
not to be passed on without that licence.

    PDFs ─ outline ─► titles that one section has ─► rows ─ by document ─► train, eval

The documents held out are others than those learned from. The only positive is the page where a
section begins; hard negatives are the pages of the same document before and after it on which
other sections begin, but for the very next pages, which may answer, too. English alone is the
default: with several languages, translations of the right page count as wrong. Titles that stand
twice in a language are left out, since nobody can tell which is meant.
"""

import gzip
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.recipes.common import FetchError, Row, fetch_debian, run_recipe

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

PAGE_HEIGHT = 896  # pixels; 735 tokens an A4 page, and print stays readable
NEXT_PAGES = 1  # as far from its beginning a section may well go on
_BOOK = re.compile(r"(?P<name>[\w-]+)(\.(?P<language>\w+))?\.pdf(\.gz)?")


@dataclass(frozen=True)
class Book:
    """A manual in one language, with the index of the page on which each section begins."""

    name: str
    language: str
    pdf: "PdfDocument"
    entries: list[tuple[str, int]]

    def image(self, page: int) -> str:
        """Return the file of a page, from the folder of the set."""
        return f"images/{self.name}.{self.language}.{page + 1:03}.png"


def build(unpacked: Path, output: Path, languages: Collection[str]) -> Iterator[Row]:
    """Render the pages on which sections begin, and yield the rows that ask for them."""
    (output / "images").mkdir(exist_ok=True)
    books = list(read_books(unpacked, languages))
    counts = Counter(
        (book.language, title.casefold()) for book in books for title, _ in book.entries
    )
    for book in books:
        asked = [
            (title, page)
            for title, page in book.entries
            if counts[book.language, title.casefold()] == 1
        ]
        pages = sorted({page for _, page in asked})
        render(book, pages, output)
        for title, page in asked:
            yield {
                "query": title,
                "positive_image": book.image(page),
                "negative_image": [book.image(other) for other in neighbours(page, pages)],
                "source": f"manuals-{book.name}",
                "metadata": {
                    "lang": book.language,
                    "license": "GPL-2+",
                    "document": book.name,
                    "page": page + 1,
                },
            }


def render(book: Book, pages: Iterable[int], output: Path) -> None:
    """Write the pictures of some pages."""
    for page in pages:
        scale = PAGE_HEIGHT / book.pdf[page].get_height()
        picture = book.pdf[page].render(scale=scale).to_pil()
        picture.convert("L").save(output / book.image(page))


def read_books(unpacked: Path, languages: Collection[str]) -> Iterator[Book]:
    """Yield the manuals in some languages (none means all); without a language it is English."""
    try:
        from pypdfium2 import PdfDocument  # only this recipe needs it
    except ImportError as error:
        what = "manuals: needs pypdfium2, which is not here"
        raise FetchError(f"{what}; got {error}; run pip install 'pypdfium2>=5,<6'") from error
    for file in sorted((unpacked / "usr/share").rglob("*.pdf*")):
        name = _BOOK.fullmatch(file.name)
        language = name and (name["language"] or "en")
        if not name or (languages and language not in languages):
            continue
        content = file.read_bytes()
        pdf = PdfDocument(gzip.decompress(content) if file.suffix == ".gz" else content)
        yield Book(name["name"], language, pdf, list(outline(pdf)))


def outline(book: "PdfDocument") -> Iterator[tuple[str, int]]:
    """Yield the entries of a PDF's outline that say something, with the index of their page."""
    for entry in book.get_toc():
        title = " ".join(entry.get_title().split())
        if title and (target := entry.get_dest()) is not None:
            yield title, target.get_index()


def neighbours(page: int, pages: Iterable[int]) -> list[int]:
    """Return the last of some pages before a page and the first after it, next ones left out."""
    pages = list(pages)
    before = [other for other in pages if other < page - NEXT_PAGES]
    after = [other for other in pages if other > page + NEXT_PAGES]
    return [*before[-1:], *after[:1]]


if __name__ == "__main__":
    run_recipe(
        "manuals",
        build,
        packages=[
            "installation-guide-amd64",
            "debian-reference-en",
            "debian-policy",
            "developers-reference",
        ],
        fetch=fetch_debian,
        languages=["en"],
        is_split_by_document=True,
    )
