"""What the tiny Jina is taught: pairs by the product's own loss, the rest by its teachers.

    texts, pictures ─ single vectors ─► their targets (translations: that of the English text)
    pictures ─ vision tower ─ head ─► what the ViT sees
    captions, pictures ─ ContrastiveLoss, both kinds of vectors, every Matryoshka size

The head is dropped afterwards.

Shapes: N items, H vector size, F teacher vector size.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings
from jina.models.pairing import pair_candidates
from recipes.tiny_sources import plain

TEMPERATURE = 0.05
WEIGHTS = Weights(single=1.0, multi=1.0, kl=0.0)


class TowerHead(nn.Sequential):
    """Maps (N, H) mean features of pictures to (N, 2 F) vectors of the image teacher."""

    def __init__(self, size: int, sight_size: int) -> None:
        super().__init__(nn.LayerNorm(size), nn.Linear(size, sight_size))


def token_vectors(tokenized: Sequence[Sequence[int]], features: Tensor, count: int) -> Tensor:
    """Return a first guess of what each token means: the mean of the texts that it stands in.

    Args:
        tokenized: ids of M texts.
        features: (M, H) of these texts.
        count: tokens there are.

    Returns:
        (count, H) of deviation 1, the mean of all taken off; random where no text has the token.
    """
    lengths = torch.tensor([len(ids) for ids in tokenized])
    ids = torch.tensor([token for ids in tokenized for token in ids])
    texts = torch.arange(len(tokenized)).repeat_interleave(lengths)
    sums = torch.zeros(count, features.shape[1]).index_add_(0, ids, features[texts])
    counts = ids.bincount(minlength=count).unsqueeze(1)
    means = sums / counts.clamp(min=1) - features.mean(0)
    spread = means / means.std(1, keepdim=True).clamp(min=1e-6)
    return torch.where(counts > 0, spread, torch.randn(count, features.shape[1]))


def distance(vectors: Tensor, targets: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return how far (N, H) vectors are from their targets, cut to each of some sizes.

    The mean of 1 - cosine.
    """
    found = [1 - cosine_similarity(vectors[:, :size], targets[:, :size]) for size in sizes]
    return torch.stack(found).mean()


def sight_loss(head: TowerHead, features: Tensor, targets: Tensor) -> Tensor:
    """Return how far (N, H) mean features are from the image teacher's two vectors (N, 2 F)."""
    halves = zip(head(features).chunk(2, dim=1), targets.chunk(2, dim=1), strict=True)
    return sum(distance(found, wanted, [wanted.shape[1]]) for found, wanted in halves) / 2


def pair_loss(
    loss: ContrastiveLoss, texts: Embeddings, images: Embeddings, captions: Sequence[str]
) -> Tensor:
    """Return the product's loss of captions that look for their pictures, and back.

    Args:
        loss: symmetric.
        texts: of N captions.
        images: of their pictures.
        captions: in English; equal ones are never negatives of each other.
    """
    contents = torch.tensor([_number(caption) for caption in captions])
    pairing = pair_candidates(contents, contents ^ 1, owners=torch.arange(len(captions)))
    return loss(texts, images, pairing, temperature=torch.tensor(TEMPERATURE))[0]


def _number(caption: str) -> int:
    """Return an even 62-bit number of a caption; the odd one next to it is its picture's."""
    digest = hashlib.blake2b(plain(caption).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 2) & ~1
