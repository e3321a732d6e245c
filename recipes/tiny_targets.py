"""What the teachers say, in the tiny Jina's own numbers: what its single vectors are to become.

    MiniLM's vectors of texts ─┬──────────────────────── directions ─► targets of texts
    ViT's vectors of pictures ─┴─ ridge regression ─ directions ─► targets of pictures

The text teacher knows many words, the image teacher many looks, and neither knows the other. A
linear map from what the ViT sees to what MiniLM says of the captions, fitted to all pictures at
once, joins them: it finds twice as many held-out pictures as a network of the tiny Jina's size
learns to from the same captions alone. The directions are those in which captions and pictures
differ most, so the leading numbers of a vector, which Matryoshka keeps, say most.

Shapes: N pictures, M texts, H vector size, F teacher vector size.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from recipes.tiny_data import TinySet

RIDGE = 0.03  # of the mean variance of what the image teacher sees
TEXT_SHARE = 0.3  # of all texts in what directions are chosen by, against 1 of the pictures


@dataclass(frozen=True)
class Targets:
    """What to learn.

    Attributes:
        texts: (M, H) of length 1, single vectors of English texts.
        captions: (N, H) those of pictures' English captions.
        pictures: (N, H) of length 1, single vectors of pictures.
        sights: (N, 2 F) mean feature of each picture in the tower: the image teacher's two
            vectors, what all pictures share taken off, each of length 1.
    """

    texts: Tensor
    captions: Tensor
    pictures: Tensor
    sights: Tensor

    @classmethod
    def of(cls, data: TinySet, size: int) -> "Targets":
        """Fit them to all pictures but those held out.

        Args:
            data: the set.
            size: H.
        """
        held_out = set(data.held_out())
        trained = torch.tensor([n for n in range(len(data.keys)) if n not in held_out])
        captions = data.caption_places()
        texts = data.text_features - data.text_features[captions[trained]].mean(0)
        seen = data.picture_features - data.picture_features[trained].mean(0)
        counts = Counter(data.keys)
        weights = torch.tensor([1 / counts[data.keys[place]] for place in trained])
        found = ridge(seen[trained], texts[captions[trained]], weights)
        texts, pictures = normalize(texts, dim=1), normalize(seen @ found, dim=1)
        known = pictures[trained]
        spread = known.T @ known / len(known) + TEXT_SHARE * texts.T @ texts / len(texts)
        directions = torch.linalg.eigh(spread)[1].flip(1)[:, :size]
        halves = [normalize(half, dim=1) for half in seen.chunk(2, dim=1)]
        texts = normalize(texts @ directions, dim=1)
        return cls(
            texts=texts,
            captions=texts[captions],
            pictures=normalize(pictures @ directions, dim=1),
            sights=torch.cat(halves, dim=1),
        )


def ridge(inputs: Tensor, outputs: Tensor, weights: Tensor) -> Tensor:
    """Return the (A, B) map from (N, A) inputs to (N, B) outputs, rows weighted by (N,)."""
    weighted = inputs * (weights / weights.sum()).unsqueeze(1)
    gram = weighted.T @ inputs
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, weighted.T @ outputs)
