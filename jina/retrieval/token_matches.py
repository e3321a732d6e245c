"""Which patches of a picture the tokens of a text match: late interaction, seen from the text.

    text ─ multi vectors (tokens, D) ─┐
    picture ─ (rows * columns, D) ────┴─► similarity of each token with each patch

A text's score adds up, token by token, the best of these; tokens of the prompt count in the score
and are not shown.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from jina.data.image_loading import load_image
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import pack
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor, prompt_for
from jina.retrieval.item_embedding import EmbeddingItem

MAX_TOKENS = 24  # of a text
DIGITS = 4


@dataclass(frozen=True)
class TokenMatches:
    """Similarities between a text and a picture.

    Attributes:
        text: id of the text.
        picture: id of the picture.
        tokens: the text's own, as it has them.
        columns: patches in a row of the picture.
        similarities: (tokens, rows * columns) cosines, row by row.
    """

    text: str
    picture: str
    tokens: list[str]
    columns: int
    similarities: list[list[float]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TokenMatches":
        """Read plain JSON.

        Raises:
            ValueError: it is no such thing.
        """
        found = cls(**values)
        sizes = {len(row) for row in found.similarities}
        is_grid = len(sizes) == 1 and sizes != {0} and max(sizes) % found.columns == 0
        if not is_grid or len(found.tokens) != len(found.similarities):
            raise ValueError(f"similarities: are no grid; got {sizes} for {found.columns} columns")
        return found

    def grid(self, token: int) -> list[list[float]]:
        """Return the similarities of a token as rows of patches."""
        flat = self.similarities[token]
        return [flat[i : i + self.columns] for i in range(0, len(flat), self.columns)]


def match_tokens(
    model: JinaEmbeddingsV4Model,
    pairs: Iterable[tuple[str, str]],
    read: dict[str, EmbeddingItem],
    *,
    task: str,
    role: str,
) -> list[TokenMatches]:
    """Compare the tokens of texts with the patches of pictures.

    Args:
        model: left as it is.
        pairs: ids of a text and of a picture.
        read: the items by their ids.
        task: the adapter.
        role: `query` or `passage`, what the texts are.

    Raises:
        ImageError: a picture can't be read.
    """
    prompt = prompt_for(task, role)
    return [
        _match(model, task, prompt, (text, read[text]), (picture, read[picture]))
        for text, picture in pairs
    ]


def _match(
    model: JinaEmbeddingsV4Model,
    task: str,
    prompt: str,
    text: tuple[str, EmbeddingItem],
    picture: tuple[str, EmbeddingItem],
) -> TokenMatches:
    """Embed one text and one picture together, and compare."""
    processor = model.processor
    places, tokens = own_tokens(processor, text[1].text, prompt)
    image = load_image(picture[1].image, root=picture[1].root)
    sequences = [
        processor.text_sequence(text[1].text, prompt=prompt),
        processor.image_sequence(image),
    ]
    with model.inference():
        batch = pack(sequences).to(model.device)
        vectors = model.multi_vectors(model.hidden_states(batch, task)).float().cpu()
    of_text, of_picture = vectors.split(list(map(len, sequences)))
    patches = of_picture[sequences[1].input_ids == processor.image_token_id]
    similarities = of_text[torch.tensor(places)] @ patches.T
    rounded = [[round(value, DIGITS) for value in row] for row in similarities.tolist()]
    columns = sequences[1].grid_thw[2] // processor.image_settings.merge_size
    return TokenMatches(text[0], picture[0], tokens, columns, rounded)


def own_tokens(
    processor: JinaEmbeddingsV4Processor, text: str, prompt: str
) -> tuple[list[int], list[str]]:
    """Return the places of a text's first tokens behind its prompt, and their letters."""
    before = f"{prompt}: "
    whole = before + text
    processor.tokenizer.encode_special_tokens = True  # as `text_sequence` reads it
    offsets = processor.tokenizer.encode(whole, add_special_tokens=False).offsets
    own = [i for i, (_, end) in enumerate(offsets) if end > len(before)][:MAX_TOKENS]
    return own, [whole[max(offsets[i][0], len(before)) : offsets[i][1]].strip() for i in own]
