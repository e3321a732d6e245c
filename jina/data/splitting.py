"""Split rows so that nothing learned from is met again when measuring.

    rows ─ what they hold ─► groups bound together ─ seed, fractions ─► the split of each row

Rows that hold the same image or the same text, under whatever file name, form a group, and so do
rows of one document, if asked, and rows that a chain of such rows connects; a group goes to one
split as a whole. The split depends on the seed and on what the groups hold, not on the order of
the rows.
"""

import hashlib
import json
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

# Larger groups are placed first, while there is room for them: this share of all rows.
LARGE_GROUP = 0.01


class RowGroups:
    """Groups of rows, found while the rows pass by: 8 bytes for a row, more for what it holds."""

    def __init__(self) -> None:
        self._parents = array("q")
        self._first_rows: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._parents)

    def add(self, identities: Iterable[bytes]) -> None:
        """Add the next row with the identities of the images and texts it holds."""
        row = len(self._parents)
        self._parents.append(row)
        for identity in identities:
            first = self._root(self._first_rows.setdefault(identity, row))
            self._parents[self._root(row)] = first

    def sizes(self) -> Counter[int]:
        """Return the number of rows of each group, under the number of one of its rows."""
        return Counter(self._root(row) for row in range(len(self)))

    def assign(self, fractions: Mapping[str, float], *, seed: int) -> list[str]:
        """Return the split of each row.

        Each group goes to the split that lacks most rows, so that every split comes to within the
        largest group of its fraction. Large groups go first, the others in an order drawn from
        the seed.
        """
        keys = self._keys(seed)
        sizes = self.sizes()
        lacking = {name: fraction * len(self) for name, fraction in fractions.items()}
        threshold = LARGE_GROUP * len(self)
        order = sorted(
            sizes, key=lambda group: (-sizes[group] * (sizes[group] > threshold), keys[group])
        )
        chosen = {}
        for group in order:
            chosen[group] = max(lacking, key=lacking.__getitem__)
            lacking[chosen[group]] -= sizes[group]
        return [chosen[self._root(row)] for row in range(len(self))]

    def _keys(self, seed: int) -> dict[int, bytes]:
        """Return a pseudo-random key of each group, drawn from the seed and its content."""
        keys: dict[int, bytes] = {}
        salt = hashlib.blake2b(b"%d" % seed, digest_size=16).digest()
        for identity, row in self._first_rows.items():
            key = hashlib.blake2b(identity, digest_size=16, salt=salt).digest()
            group = self._root(row)
            keys[group] = min(keys.get(group, key), key)
        return keys

    def _root(self, row: int) -> int:
        """Return the row that stands for a row's group, and shorten the way to it."""
        parents = self._parents
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row


def text_identity(text: str) -> bytes:
    """Return what texts share that differ in case, spaces or the encoding of accents at most."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return b"text" + hashlib.blake2b(plain.encode("utf-8"), digest_size=16).digest()


def value_identity(value: object) -> bytes:
    """Return what rows share whose user says that equal values of a field belong together."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return b"value" + hashlib.blake2b(text.encode("ascii"), digest_size=16).digest()


def parse_fractions(text: str) -> dict[str, float]:
    """Read `train=0.9,eval=0.1`; raise `ValueError` with what is wrong in the house's form."""
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        try:
            fraction = float(number)
        except ValueError:
            fraction = 0.0
        if not name.isidentifier() or name in fractions or not 0 < fraction < 1:
            raise ValueError(f"--split: is not name=fraction; got {part!r}; {_EXAMPLE}")
        fractions[name] = fraction
    if abs(sum(fractions.values()) - 1) > 1e-6:
        total = sum(fractions.values())
        raise ValueError(f"--split: fractions do not add up to 1; got {total:g}; {_EXAMPLE}")
    return fractions


_EXAMPLE = "write such as train=0.9,eval=0.1"
