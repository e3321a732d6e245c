"""colpali-engine: its ContrastiveTrainer, BiEncoderLoss and BiQwen2_5.

Run by `benchmarks.train_step` as `python -m benchmarks.rivals.colpali_engine_trainer ERRAND`;
imports nothing of SmartEmbed. Its collator would add ten tokens to each query; ours here gives it
the tokens that all variants get. Left padding and the last token as the vector are its own.
"""

from pathlib import Path
from typing import Any

from colpali_engine.loss import BiEncoderLoss
from colpali_engine.models import BiQwen2_5, BiQwen2_5_Processor
from colpali_engine.trainer.contrastive_trainer import ContrastiveTrainer
from peft import get_peft_model
from PIL import Image
from torch import Tensor
from torch.utils.data import SequentialSampler

from benchmarks.measuring import errand_of_this_process, read_batches, watch_trainer
from benchmarks.rivals.stock_trainer import lora_config, training_arguments


def main() -> None:
    """Train the steps that the errand asks for."""
    errand = errand_of_this_process()
    folder = Path(errand["workload"])
    pairs = read_batches(folder)["pairs"]
    model = BiQwen2_5.from_pretrained(folder / "stock", key_mapping={"^model": "language_model"})
    processor = BiQwen2_5_Processor.from_pretrained(folder / "stock")
    watch_trainer(errand)
    InOrder(
        loss_func=BiEncoderLoss(temperature=errand["temperature"]),
        is_vision_model=True,
        model=get_peft_model(model, lora_config(errand)),
        args=training_arguments(errand),
        train_dataset=tuple(pairs),  # a list would mean several data sets
        eval_dataset=None,
        data_collator=Collator(processor),
    ).train()


class Collator:
    """Reads images and lets the package's processor pad both sides."""

    query_prefix, pos_doc_prefix, neg_doc_prefix = "query_", "doc_", "neg_doc_"

    def __init__(self, processor: BiQwen2_5_Processor) -> None:
        self.processor = processor

    def __call__(self, pairs: list[dict[str, str]]) -> dict[str, Tensor]:
        """Return both sides, texts as queries: the package has no image queries."""
        images = [Image.open(pair["image"]).convert("RGB") for pair in pairs]
        documents = self.processor.process_images(images)
        queries = self.processor.process_texts([pair["text"] for pair in pairs])
        return {f"query_{name}": value for name, value in queries.items()} | {
            f"doc_{name}": value for name, value in documents.items()
        }


class InOrder(ContrastiveTrainer):
    """Takes the rows in their order."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


if __name__ == "__main__":
    main()
