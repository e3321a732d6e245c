"""Embedding the official way: padded batches in the caller's order, all hidden states, lm_head.

Run by `benchmarks.encode` as `python -m benchmarks.rivals.stock_encoder ERRAND`; imports nothing
of SmartEmbed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from benchmarks.measuring import Meter, errand_of_this_process, read_batches, write_vectors
from benchmarks.rivals.stock_trainer import LORA_TARGETS, PaddedCollator, embed


def main() -> None:
    """Embed the errand's images and texts."""
    errand = errand_of_this_process()
    folder, size = Path(errand["workload"]), errand["batch_size"]
    batches = read_batches(folder)
    stock = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "stock")
    model = get_peft_model(stock, adapter_config(errand)).eval()
    load_adapter(model, folder)
    processor = AutoProcessor.from_pretrained(folder / "stock")
    collator = PaddedCollator(processor, batches["image_prompt"])
    meter = Meter()
    found: list[Tensor] = []
    with torch.no_grad():
        for kind, prepare in (("image", collator.images), ("text", collator.texts)):
            items = [pair[kind] for pair in batches["pairs"]]
            for start in range(0, len(items), size):
                found.append(embed(model, prepare(items[start : start + size])))
    write_vectors(errand, meter, torch.cat(found).numpy().astype(np.float32))


def adapter_config(errand: dict[str, Any]) -> LoraConfig:
    """Return the shape of the checkpoint's adapters."""
    rank = errand["rank"]
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=LORA_TARGETS)


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Fill a PEFT adapter with the official file's, so that all variants make the same vectors."""
    tensors = load_file(folder / "model/adapters/adapter_model.safetensors")
    prefix = "base_model.model.model."
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            layer = name[name.index("language_model.") :].replace(".default.", ".retrieval.")
            parameter.data.copy_(tensors[f"{prefix}{layer}"])


if __name__ == "__main__":
    main()
