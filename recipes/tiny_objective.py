"""What the tiny Jina is taught: pairs by the product's own loss, the rest by its teachers.

    texts ─ single vectors ─ head ─► MiniLM's vectors (translations: those of the English text)
    pictures ─ vision tower ─ head ─► the ViT's vectors
    captions, pictures ─ ContrastiveLoss, both kinds of vectors, every Matryoshka size
                       └ relation: as alike as MiniLM finds the captions

The heads are dropped afterwards. The head of texts starts as the principal components of MiniLM's
vectors, so that the leading numbers of a vector, which Matryoshka keeps, say most.

Shapes: N items, H vector size, F teacher vector size.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, log_softmax, softmax

from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings
from jina.models.pairing import pair_candidates
from recipes.tiny_sources import plain

TEMPERATURE = 0.05
TEACHER_TEMPERATURE = 0.08
WEIGHTS = Weights(single=1.0, multi=0.5, kl=0.0)


class Heads(nn.Module):
    """Linear maps from the tiny Jina's vectors to its teachers'.

    Args:
        components: (F, H) principal components of the text teacher's vectors.
        vision_size: of the mean feature of a picture.
        picture_size: of the image teacher's vectors.
    """

    def __init__(self, components: Tensor, vision_size: int, picture_size: int) -> None:
        super().__init__()
        self.text = nn.Linear(components.shape[1], len(components), bias=False)
        self.picture = nn.Sequential(
            nn.LayerNorm(vision_size), nn.Linear(vision_size, picture_size)
        )
        with torch.no_grad():
            self.text.weight.copy_(components)


def principal_components(features: Tensor, count: int) -> Tensor:
    """Return the (F, count) leading directions of (N, F) vectors, not centred."""
    _, directions = torch.linalg.eigh(features.T @ features)
    return directions.flip(1)[:, :count].contiguous()


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


def text_loss(heads: Heads, vectors: Tensor, targets: Tensor) -> Tensor:
    """Return how far (N, H) single vectors are from the text teacher's (N, F): 1 - cosine."""
    return (1 - cosine_similarity(heads.text(vectors), targets)).mean()


def picture_loss(heads: Heads, features: Tensor, targets: Tensor) -> Tensor:
    """Return how far (N, H) mean features are from the image teacher's two vectors (N, 2 F)."""
    found = heads.picture(features)
    halves = zip(found.chunk(2, dim=1), targets.chunk(2, dim=1), strict=True)
    return sum((1 - cosine_similarity(a, b)).mean() for a, b in halves) / 2


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


def relation_loss(texts: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    """Return the divergence of (N, H) texts and images from what the teacher finds alike.

    Args:
        texts: single vectors of captions.
        images: single vectors of pictures.
        targets: (N, F) the text teacher's vectors of the captions.
    """
    wanted = softmax(targets @ targets.T / TEACHER_TEMPERATURE, dim=1)
    scores = texts @ images.T / TEMPERATURE
    return (
        -sum((wanted * log_softmax(found, dim=1)).sum(1).mean() for found in (scores, scores.T)) / 2
    )


def _number(caption: str) -> int:
    """Return an even 62-bit number of a caption; the odd one next to it is its picture's."""
    digest = hashlib.blake2b(plain(caption).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 2) & ~1
