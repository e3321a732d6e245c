"""sentence-transformers: MultipleNegativesRankingLoss and its cached form, mini-batches of 8.

Run by `benchmarks.train_step` as `python -m benchmarks.rivals.sentence_transformer ERRAND`;
imports nothing of SmartEmbed. It pools all tokens of an image, prompt included, so its losses
are its own.
"""

from pathlib import Path
from typing import Any

from datasets import Dataset
from datasets import Image as ImageFeature
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch.utils.data import SequentialSampler

from benchmarks.measuring import errand_of_this_process, read_batches, watch_trainer
from benchmarks.rivals.stock_trainer import lora_config, training_arguments

MINI_BATCH = 8


def main() -> None:
    """Train the steps that the errand asks for."""
    errand = errand_of_this_process()
    folder = Path(errand["workload"])
    model = load(folder)
    model.add_adapter(lora_config(errand))
    scale = 1 / errand["temperature"]
    loss: Any = MultipleNegativesRankingLoss(model, scale=scale)
    if errand["variant"] == "ST, cached loss":
        loss = CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=MINI_BATCH)
    pairs = read_batches(folder)["pairs"]
    columns = {name: [pair[name] for pair in pairs] for name in ("image", "text")}
    rows = Dataset.from_dict(columns).cast_column("image", ImageFeature())
    watch_trainer(errand)
    SentenceTransformerTrainer(
        model=model,
        args=training_arguments(
            errand, SentenceTransformerTrainingArguments, batch_sampler=in_order
        ),
        train_dataset=rows,
        loss=loss,
    ).train()


def load(folder: Path) -> SentenceTransformer:
    """Return the stock checkpoint with mean pooling."""
    transformer = Transformer(str(folder / "stock"))
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def in_order(dataset: Dataset, batch_size: int, drop_last: bool, **_: Any) -> DefaultBatchSampler:
    """Return a batch sampler that keeps the order of the rows."""
    return DefaultBatchSampler(
        SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last
    )


if __name__ == "__main__":
    main()
