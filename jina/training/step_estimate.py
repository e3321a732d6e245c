"""What a training step would take: rows and tokens, negatives, and memory before it is needed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from jina.models.checkpoint import Checkpoint
from jina.models.configuration_jina_embeddings_v4 import read_config
from jina.training.training_config import JinaTrainingConfig

GIB = 2**30
# What a token keeps in a decoder layer of true size, in bf16: for the backward pass; checkpointed.
ACTIVATION_KIB, CHECKPOINTED_KIB = 160.9, 4.0


@dataclass(frozen=True)
class ModelSize:
    """What of a model decides about memory; the defaults are the official checkpoint's.

    Attributes:
        base_parameters: Frozen ones.
        adapter_parameters: Of one adapter.
        rank: That these adapters have.
        layers: Of the decoder.
        width: Hidden and intermediate size of the decoder, added up.
        base_bytes: Of one frozen parameter.
    """

    base_parameters: int = 3_754_885_248
    adapter_parameters: int = 59_936_768
    rank: int = 32
    layers: int = 36
    width: int = 2_048 + 11_008
    base_bytes: int = 2

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "ModelSize":
        """Read the sizes off a checkpoint's small files and the lengths of its large ones."""
        config = read_config(checkpoint.path)
        stored = config.dtype or torch.bfloat16
        weights = sum(file.stat().st_size for file in checkpoint.base_files)
        adapters = checkpoint.adapter_file.stat().st_size // checkpoint.adapter_dtype.itemsize
        return cls(
            base_parameters=weights // stored.itemsize,
            adapter_parameters=adapters // len(config.task_names),
            rank=checkpoint.adapter_settings.rank,
            layers=config.text_config.num_hidden_layers,
            width=config.text_config.hidden_size + config.text_config.intermediate_size,
            base_bytes=stored.itemsize,
        )


def estimate_step(
    config: JinaTrainingConfig,
    size: ModelSize,
    *,
    rows: int,
    tokens: Mapping[str, float],
    items: Mapping[str, float],
) -> dict[str, object]:
    """Estimate a step of one process on rows of average length.

    memory = weights + adapters and optimizer + activations, where

    - weights: the frozen parameters in their type;
    - adapters and optimizer: three adapters in float32, and for each trained one its gradient and
      Adam's two moments: 4 * 3 * P + 12 * P' bytes, P' being P at the rank of the run;
    - activations: T tokens with a graph * layers * 160.9 KiB, measured in one decoder layer of true
      size under bf16 autocast, in proportion to hidden + intermediate size; twice that in float32;
      with gradient checkpointing 4 KiB, and the 160.9 KiB for one layer. T is what gradient caching
      keeps of the batch: one micro-batch, or training.tokens_with_graph.

    Left out: the vectors of the whole batch, the frozen vision tower, which keeps nothing for a
    backward pass, what CUDA itself takes, and fragmentation. It is meant to tell 20 GiB from 60,
    not 38 from 40.

    Args:
        config: Of the run.
        size: Of the model.
        rows: How many there are; a batch has no more.
        tokens: What the queries, positives and negatives of a row have on average.
        items: How many of them a row has on average.
    """
    batch_size = min(config.training.per_device_train_batch_size, rows)
    batch_tokens = batch_size * sum(tokens.values())
    named = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    dtype = named.get(config.model.dtype)
    weight_bytes = dtype.itemsize if dtype else size.base_bytes
    trained = size.adapter_parameters * (config.lora.r or size.rank) / size.rank
    copies = 1 if config.lora.init == "shared" else len(config.lora.tasks)
    training = config.training
    limit = training.tokens_with_graph or training.tokens_per_micro_batch or batch_tokens
    kept_kib, one_layer_kib = _activation_kib(config, size, weight_bytes)
    memory = {
        "weights": size.base_parameters * weight_bytes,
        "adapters and optimizer": 4 * 3 * size.adapter_parameters + 12 * trained * copies,
        "activations": min(batch_tokens, limit) * 1024 * (kept_kib * size.layers + one_layer_kib),
    }
    return {
        "batch_size": batch_size,
        "tokens": round(batch_tokens),
        "in_batch_negatives_per_query": max(0, batch_size - 1) * items["positives"],
        "hard_negatives_per_query": batch_size * items["negatives"],
        "memory_gib": {name: value / GIB for name, value in memory.items()},
    }


def _activation_kib(
    config: JinaTrainingConfig, size: ModelSize, weight_bytes: int
) -> tuple[float, float]:
    """Return the KiB a token leaves behind in each layer, and those in the layer at work."""
    scale = size.width / ModelSize.width * (2 if weight_bytes == 4 else 1)
    training = config.training
    if training.gradient_checkpointing or getattr(training, "activation_checkpointing", False):
        return CHECKPOINTED_KIB * scale, ACTIVATION_KIB * scale
    return ACTIVATION_KIB * scale, 0.0
