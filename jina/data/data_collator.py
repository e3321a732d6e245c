"""From loaded samples to one packed contrastive batch.

    queries ────────► query_input_ids, query_position_ids, query_lengths, query_pooled,
                      query_pixel_values, query_image_grid_thw, query_identities
    positives ──────► the same under positive_, and positive_owners, the row of each
    hard negatives ─► the same under negative_; absent when the batch has none
    task ───────────► task, one for the batch

Rows may have any number of positives and negatives: they are laid end to end, nothing is padded,
repeated or filled in. There is no key `labels`: with one, transformers would scale the gradient by
the accumulation steps.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL import Image

from jina.data.multimodal_dataset import LoadedItem, LoadedSample


class Processor(Protocol):
    """What the collator needs of a processor."""

    def sequence(
        self,
        text: str | None,
        image: Image.Image | None,
        *,
        task: str,
        prompt_name: str,
        max_length: int,
    ) -> Any:
        """Turn an item into a token sequence."""

    def pack(self, sequences: Sequence[Any]) -> Any:
        """Lay token sequences end to end."""


class ContrastiveDataCollator:
    """Tokenize, cut into patches and pack the samples of one batch.

    Args:
        processor: of the model that is trained, so that training sees what inference sees.
        task: the adapter, which decides the prompts.
        max_text_tokens: longer texts are cut; images never are.
    """

    def __init__(self, processor: Processor, *, task: str, max_text_tokens: int) -> None:
        self.processor = processor
        self.task = task
        self.max_text_tokens = max_text_tokens

    def __call__(self, samples: Sequence[LoadedSample]) -> dict[str, Any]:
        """Build the batch described at the top of this module."""
        positives = [item for sample in samples for item in sample.positives]
        negatives = [item for sample in samples for item in sample.negatives]
        owners = [row for row, sample in enumerate(samples) for _ in sample.positives]
        batch = {"task": self.task, "positive_owners": torch.tensor(owners)}
        batch |= self._packed("query_", [s.query for s in samples], prompt_name="query")
        batch |= self._packed("positive_", positives, prompt_name="passage")
        if negatives:
            batch |= self._packed("negative_", negatives, prompt_name="passage")
        return batch

    def _packed(
        self, prefix: str, items: Sequence[LoadedItem], *, prompt_name: str
    ) -> dict[str, Any]:
        sequences = [
            self.processor.sequence(
                item.text,
                item.image,
                task=self.task,
                prompt_name=prompt_name,
                max_length=self.max_text_tokens,
            )
            for item in items
        ]
        identities = [int.from_bytes(item.identity[:8], "big", signed=True) for item in items]
        packed = self.processor.pack(sequences).to_dict(prefix)
        return {**packed, f"{prefix}identities": torch.tensor(identities)}
