"""From loaded samples to one packed contrastive batch.

    queries ────────► query_input_ids, query_position_ids, query_lengths, query_pooled,
                      query_patches, query_image_grid_thw, query_identities, …
    positives ──────► the same under positive_, and positive_owners, the row of each
    hard negatives ─► the same under negative_; absent when the batch has none
    task ───────────► task, one for the batch
    scores ─────────► ratings (rows,); absent when the rows have none
    other rows of a query ─► elsewhere, (pairs, 2): a row and the identity of a positive that it
                      hasn't, which is no negative of it; absent when there are none

Rows may have any number of positives and negatives: they are laid end to end, nothing is padded,
repeated or filled in. A picture is cut into patches as its row comes by, and let go; one that came
before, or whose features are at hand, comes as its facts and has no patches. There is no
key `labels`: with one, transformers would scale the gradient by the accumulation steps.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from jina.data.checking.image_headers import ImageFacts
from jina.data.multimodal_dataset import LoadedItem, LoadedSample


class Processor(Protocol):
    """What the collator needs of a processor."""

    def sequence(
        self,
        text: str | None,
        image: Image.Image | ImageFacts | None,
        *,
        task: str,
        prompt_name: str,
        max_length: int,
        image_identity: bytes,
    ) -> Any:
        """Turn an item into a token sequence."""

    def pack(self, sequences: Sequence[Any]) -> Any:
        """Lay token sequences end to end."""


class ContrastiveDataCollator:
    """Tokenize, cut into patches and pack the samples of one batch.

    Args:
        processor: of the model that is trained, so that training sees what inference sees.
        max_text_tokens: longer texts are cut; images never are.
    """

    def __init__(self, processor: Processor, *, max_text_tokens: int) -> None:
        self.processor = processor
        self.max_text_tokens = max_text_tokens

    def __call__(self, samples: Iterable[LoadedSample]) -> dict[str, Any]:
        """Build the batch described at the top of this module.

        Args:
            samples: of one task, all with a score or none.
        """
        sides: dict[str, list[tuple[Any, int]]] = {"query_": [], "positive_": [], "negative_": []}
        owners, tasks, scores = [], [], []
        elsewhere: dict[bytes, tuple[int, np.ndarray]] = {}  # once for each query
        for row, sample in enumerate(samples):
            tasks.append(sample.task)
            scores.append(sample.score)
            owners += [row] * len(sample.positives)
            elsewhere.setdefault(sample.query.identity, (row, sample.elsewhere))
            for prefix, items in zip(
                sides, ((sample.query,), sample.positives, sample.negatives), strict=True
            ):
                prompt_name = "query" if prefix == "query_" else "passage"
                sides[prefix] += [self._sequence(item, sample.task, prompt_name) for item in items]
        kinds = {(task, score is None) for task, score in zip(tasks, scores, strict=True)}
        if len(kinds) != 1:
            raise ValueError(f"batch: rows of one task, all with a score or none; got {kinds}")
        batch = {"task": tasks[0], "positive_owners": torch.tensor(owners)}
        rows, found = zip(*elsewhere.values(), strict=True)
        if any(map(len, found)):
            pairs = np.repeat(rows, [*map(len, found)]), np.concatenate(found)
            batch["elsewhere"] = torch.from_numpy(np.stack(pairs, axis=1))
        if scores[0] is not None:
            batch["ratings"] = torch.tensor(scores, dtype=torch.float32)
        for prefix, side in sides.items():
            if side:
                sequences, identities = zip(*side, strict=True)
                batch |= self.processor.pack(sequences).to_dict(prefix)
                batch[f"{prefix}identities"] = torch.tensor(identities)
        return batch

    def _sequence(self, item: LoadedItem, task: str, prompt_name: str) -> tuple[Any, int]:
        sequence = self.processor.sequence(
            item.text,
            item.image,
            task=task,
            prompt_name=prompt_name,
            max_length=self.max_text_tokens,
            image_identity=item.image_identity,
        )
        return sequence, int.from_bytes(item.identity[:8], "big", signed=True)
