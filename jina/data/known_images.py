"""Images of a data set that needn't be decoded, because what they lead to is at hand.

    the training process marks an image ─ shared memory ─► loader processes leave its file alone

A byte for each distinct picture. It is a hint that may come late: whoever is given an image's facts
only, and doesn't have what it led to, decodes the image after all (`reload_image`).
"""

from collections.abc import Iterable

import numpy as np
import torch

from jina.data.row_index import SIDES, RowIndex, as_number


class KnownImages:
    """Which pictures of some rows are known.

    Args:
        index: of rows whose images were decoded when they were checked.
    """

    def __init__(self, index: RowIndex) -> None:
        sides = [getattr(index, side) for side in SIDES]
        self._images = np.unique(np.concatenate([s.images[s.widths > 0] for s in sides]))
        self._is_known = torch.zeros(len(self._images), dtype=torch.uint8).share_memory_()

    def images(self) -> np.ndarray:
        """Return those that are known, as `Items.images` has them."""
        return self._images[self._is_known.numpy() == 1]

    def __contains__(self, identity: object) -> bool:
        """Tell whether an image is known; one of other rows never is."""
        place = self._place(identity) if isinstance(identity, bytes) else None
        return place is not None and bool(self._is_known[place])

    def mark(self, identities: Iterable[bytes], *, known: bool = True) -> None:
        """Take note of images; those of other rows are passed over."""
        for identity in identities:
            place = self._place(identity)
            if place is not None:
                self._is_known[place] = known

    def _place(self, identity: bytes) -> int | None:
        image = as_number(identity)
        place = int(np.searchsorted(self._images, image))
        return place if place < len(self._images) and self._images[place] == image else None
