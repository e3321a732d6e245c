"""Which items of a data set are embedded together, and how they are read when their turn comes.

A collection has one kind (text, image, text+image) and one role. Items with an image have no prompt
that a role could change, so queries and documents share their collection and each picture is
embedded once; text matching knows only queries.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jina.data.multimodal_dataset import MultimodalDataset
from jina.data.row_index import SIDES, RowIndex
from jina.models.processing_jina_embeddings_v4 import prompt_for
from jina.retrieval.item_embedding import EmbeddingItem
from jina.retrieval.judgements import Direction

FIELDS = {"queries": "query", "positives": "positive", "negatives": "negative"}


class Collection(NamedTuple):
    """A kind of items and the role they are embedded in."""

    kind: str
    role: str


def collection_of(kind: str, role: str, *, task: str) -> Collection:
    """Return where items of a kind and role are embedded."""
    has_prompt = kind == "text" and prompt_for(task, role) != prompt_for(task, "query")
    return Collection(kind, role if has_prompt else "query")


def needed(directions: Iterable[Direction]) -> dict[Collection, np.ndarray]:
    """Return the identities in each collection, ascending."""
    wanted: dict[Collection, list[np.ndarray]] = {}
    for d in directions:
        for kind, role, own in ((d.asked, "query", d.queries), (d.found, "passage", d.documents)):
            wanted.setdefault(collection_of(kind, role, task=d.task), []).append(own)
    return {name: np.unique(np.concatenate(parts)) for name, parts in wanted.items()}


class ItemReader:
    """Reads items of a data set by their identity."""

    def __init__(self, dataset: MultimodalDataset) -> None:
        self.dataset = dataset
        sides = [getattr(dataset.index, side) for side in SIDES]
        self._ends = np.cumsum([0, *(len(side) for side in sides)])
        identities = np.concatenate([side.identities for side in sides]).view(np.uint64)
        self._identities, self._first = np.unique(identities, return_index=True)

    def read(self, identities: Iterable[int]) -> Iterator[EmbeddingItem]:
        """Yield items, each as it first stands in the files, without opening an image."""
        for identity in identities:
            place = self._first[np.searchsorted(self._identities, identity)]
            yield self._item(place)

    def where(self, identity: int) -> str:
        """Say where an item first stands, as `file:line: positive[1]`."""
        row, side, position = self._place(self._first[np.searchsorted(self._identities, identity)])
        return self._name(row, side, position)

    def _place(self, place: int) -> tuple[int, str, int]:
        """Return row, side and position of an item of all sides end to end."""
        number = int(np.searchsorted(self._ends, place, side="right")) - 1
        side = SIDES[number]
        offsets = getattr(self.dataset.index, side).offsets
        inside = place - self._ends[number]
        row = int(np.searchsorted(offsets, inside, side="right")) - 1
        return row, side, int(inside - offsets[row])

    def _item(self, place: int) -> EmbeddingItem:
        row, side, position = self._place(place)
        sample = self.dataset.sample(row)
        items = (sample.query,) if side == "queries" else getattr(sample, side)
        root = self.dataset.image_root(sample.file)
        item = items[position]
        return EmbeddingItem(item.text, item.image, root, self._name(row, side, position))

    def _name(self, row: int, side: str, position: int) -> str:
        index: RowIndex = self.dataset.index
        file = self.dataset.files[index.files[row]]
        name = FIELDS[side] if side == "queries" else f"{FIELDS[side]}[{position}]"
        return f"{file}:{index.lines[row]}: {name}"
