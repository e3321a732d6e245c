"""Configuration of Jina Embeddings V4: Qwen2.5-VL's own fields and the six that Jina adds.

The official `config.json` names no `model_type` and points at remote code, so `AutoConfig` refuses
it. Reading it as a `JinaEmbeddingsV4Config` needs neither; the file itself is never rewritten,
because transformers 5 writes a form that the official code can't read.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import Qwen2_5_VLConfig

TASK_NAMES = ("retrieval", "text-matching", "code")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@strict
class JinaEmbeddingsV4Config(Qwen2_5_VLConfig):
    """Qwen2.5-VL configuration plus Jina's fields.

    Attributes:
        task_names: one LoRA adapter each.
        matryoshka_dims: lengths to which a single vector may be cut.
        truncate_dim: length used when the caller names none; `None` keeps the whole vector.
        multi_vector_projector_dim: length of a token vector.
        single_vector_pool_strategy: stored by the official code and never read by it.
    """

    model_type = "jina_embeddings_v4"
    task_names: list[str] | tuple[str, ...] = TASK_NAMES
    matryoshka_dims: list[int] | tuple[int, ...] = (128, 256, 512, 1024, 2048)
    truncate_dim: int | None = None
    single_vector_pool_strategy: str = "mean"
    multi_vector_projector_dim: int = 128
    pretrained_peft_model_name_or_path: str | None = None
    verbosity: int = 1


def config_from_dict(values: dict[str, Any]) -> JinaEmbeddingsV4Config:
    """Build the configuration from the contents of an official `config.json`.

    Left out: `auto_map` (remote code), the stored attention implementation, which is chosen for the
    machine at hand instead, and the flat copy of the rotary settings, kept there for old loaders.
    """
    left_out = {"auto_map", "_attn_implementation", "model_type"}
    if "text_config" in values:
        left_out |= {"rope_scaling", "rope_theta"}
    # a copy, because transformers corrects nested sections in place
    kept = deepcopy({name: value for name, value in values.items() if name not in left_out})
    return JinaEmbeddingsV4Config(**kept)


def read_config(folder: Path) -> JinaEmbeddingsV4Config:
    """Read `config.json` of a checkpoint folder.

    Raises:
        ValueError: a field of the wrong type, or other tasks than Jina's three.
    """
    file = folder / "config.json"
    try:
        config = config_from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (AttributeError, KeyError, TypeError, ValueError, StrictDataclassError) as error:
        raise ValueError(
            f"{file}: not a configuration; got {error}; fetch the file again"
        ) from error
    if config.dtype not in (None, *DTYPES):
        raise ValueError(f"{file}: dtype: not a type to compute in; got {config.dtype}")
    if set(config.task_names) != set(TASK_NAMES):
        raise ValueError(
            f"{file}: task_names: not Jina's tasks; got {list(config.task_names)}; "
            f"expected {', '.join(TASK_NAMES)}"
        )
    return config
