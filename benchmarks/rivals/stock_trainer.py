"""The plain way: transformers' Trainer, PEFT and padded batches, computed as Jina's code does.

Run by `benchmarks.train_step` as `python -m benchmarks.rivals.stock_trainer ERRAND`; imports
nothing of SmartEmbed. Two forward passes a step, of the padded images and of the padded texts,
through `Qwen2_5_VLForConditionalGeneration` with all hidden states and the language-model head.
"""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import SequentialSampler
from transformers import (
    AutoProcessor,
    Qwen2_5_VLForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from benchmarks.measuring import errand_of_this_process, read_batches, watch_trainer

# decoder only, as the published adapters are; Jina's own pattern would match the vision tower, too
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def main() -> None:
    """Train the steps that the errand asks for."""
    errand = errand_of_this_process()
    folder = Path(errand["workload"])
    batches = read_batches(folder)
    processor = AutoProcessor.from_pretrained(folder / "stock")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "stock")
    watch_trainer(errand)
    trainer = PaddedTrainer(
        get_peft_model(model, lora_config(errand)),
        training_arguments(
            errand, gradient_checkpointing=errand["variant"] == "naive, checkpointing"
        ),
        train_dataset=batches["pairs"],
        data_collator=PaddedCollator(processor, batches["image_prompt"]),
    )
    trainer.temperature = errand["temperature"]
    trainer.train()


def lora_config(errand: dict[str, Any]) -> LoraConfig:
    """Return the adapter that all variants train."""
    rank = errand["rank"]
    return LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=LORA_TARGETS)


def training_arguments(
    errand: dict[str, Any], kind: type[TrainingArguments] = TrainingArguments, **others: Any
) -> TrainingArguments:
    """Return the arguments that all rivals share; batches come in the given order."""
    return kind(
        output_dir=str(Path(errand["result"]).with_suffix("")),
        per_device_train_batch_size=errand["batch_size"],
        max_steps=errand["steps"],
        learning_rate=1e-4,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        **others,
    )


class PaddedCollator:
    """Reads the images and pads both sides to their longest."""

    def __init__(self, processor: Any, image_prompt: str) -> None:
        self.processor, self.image_prompt = processor, image_prompt

    def images(self, files: list[str]) -> dict[str, Tensor]:
        """Return padded inputs of image files."""
        images = [Image.open(file).convert("RGB") for file in files]
        prompts = [self.image_prompt] * len(files)
        return self.processor(text=prompts, images=images, padding=True, return_tensors="pt")

    def texts(self, texts: list[str]) -> dict[str, Tensor]:
        """Return padded inputs of texts that have their prompts."""
        return self.processor(text=texts, padding=True, return_tensors="pt")

    def __call__(self, pairs: list[dict[str, str]]) -> dict[str, dict[str, Tensor]]:
        """Return both sides of a batch."""
        return {
            "images": dict(self.images([pair["image"] for pair in pairs])),
            "texts": dict(self.texts([pair["text"] for pair in pairs])),
        }


def embed(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return single vectors (N, H) as Jina's code does: an image's are of its vision span."""
    states = model(**inputs, output_hidden_states=True).hidden_states[-1]
    pooled = inputs["attention_mask"]
    if "pixel_values" in inputs:
        ids, config = inputs["input_ids"], model.config
        starts = (ids == config.vision_start_token_id).cumsum(1)
        ends = (ids == config.vision_end_token_id).cumsum(1)
        pooled = starts - ends + (ids == config.vision_end_token_id).long()
    pooled = pooled.unsqueeze(-1).to(states.dtype)
    return normalize((states * pooled).sum(1) / pooled.sum(1), dim=-1)


class PaddedTrainer(Trainer):
    """InfoNCE of the single vectors of a batch."""

    temperature: float

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Embed both sides and tell each query's positive from the others."""
        queries, positives = (embed(model, inputs[side]) for side in ("images", "texts"))
        scores = queries @ positives.T / self.temperature
        loss = cross_entropy(scores, torch.arange(len(scores)))
        return (loss, scores) if return_outputs else loss


if __name__ == "__main__":
    main()
