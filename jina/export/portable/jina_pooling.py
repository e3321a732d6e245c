"""Jina Embeddings V4's own pooling as a sentence-transformers module, for exports made `--exact`.

This file is copied into the exported folder and stands alone. For each row it averages

    a text                all tokens
    an image              the vision span, `<|vision_start|>` and `<|vision_end|>` included
    an image and a text   the vision span and the text, but not the markers around the two

whatever the other rows of the batch hold.
"""

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor


class JinaPooling(Module):
    """Mean of each row's own span of tokens.

    Args:
        embedding_dimension: of the token embeddings.
        vision_start_id: token that opens an image.
        vision_end_id: token that closes it.
        image_text_ids: tokens put behind an image that comes without a text; not averaged.
        num_closing_tokens: tokens behind the text; not averaged.
    """

    config_keys: list[str] = [
        "embedding_dimension",
        "vision_start_id",
        "vision_end_id",
        "image_text_ids",
        "num_closing_tokens",
    ]

    def __init__(
        self,
        embedding_dimension: int,
        vision_start_id: int,
        vision_end_id: int,
        image_text_ids: list[int],
        num_closing_tokens: int,
    ) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.vision_start_id = vision_start_id
        self.vision_end_id = vision_end_id
        self.image_text_ids = image_text_ids
        self.num_closing_tokens = num_closing_tokens

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `sentence_embedding` (N, H) to features with `token_embeddings` (N, L, H)."""
        rows = []
        for states, ids, mask in zip(
            features["token_embeddings"],
            features["input_ids"],
            features["attention_mask"].bool(),
            strict=True,
        ):
            start, end = self._span(ids[mask])
            rows.append(states[mask][start:end].mean(dim=0, dtype=torch.float32))
        features["sentence_embedding"] = torch.stack(rows)
        return features

    def _span(self, ids: Tensor) -> tuple[int, int]:
        starts = (ids == self.vision_start_id).nonzero()
        ends = (ids == self.vision_end_id).nonzero()
        if not len(starts) or not len(ends):
            return 0, len(ids)
        vision_end = int(ends[-1]) + 1
        text_end = len(ids) - self.num_closing_tokens
        has_text = ids[vision_end:text_end].tolist() != self.image_text_ids
        return int(starts[0]), text_end if has_text else vision_end

    def get_embedding_dimension(self) -> int:
        """Return the length of the vectors."""
        return self.embedding_dimension

    def save(self, output_path: str, *_: object, **__: object) -> None:
        """Write the configuration; there are no weights."""
        self.save_config(output_path)
