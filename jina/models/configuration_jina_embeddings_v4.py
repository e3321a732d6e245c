"""Configuration of Jina Embeddings V4: Qwen2.5-VL's own fields and the six that Jina adds.

The official `config.json` names no `model_type` and points at remote code, so `AutoConfig` refuses
it. Reading it as a `JinaEmbeddingsV4Config` needs neither; the file itself is never rewritten,
because transformers 5 writes a form that the official code can't read.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import Qwen2_5_VLConfig

TASK_NAMES = ("retrieval", "text-matching", "code")
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError)
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

    Left out: `auto_map` (remote code), the path that the folder once had, the stored attention
    implementation, which is chosen for the machine at hand instead, and the flat copy of the rotary
    settings, kept there for old loaders.
    """
    left_out = {"auto_map", "_attn_implementation", "_name_or_path", "model_type"}
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
    except (*MALFORMED, StrictDataclassError) as error:
        raise ValueError(
            f"{file}: not a configuration; got {error}; fetch the file again"
        ) from error
    for field, value, is_right, wanted in _facts(config):
        if not is_right:
            raise ValueError(f"{file}: {field}: can't work; got {value!r}; it must be {wanted}")
    return config


def _facts(config: JinaEmbeddingsV4Config) -> Iterator[tuple[str, Any, bool, str]]:
    """Yield what would otherwise fail at first use: field, value, whether it is right, what is."""
    text, window = config.text_config, config.vision_config.window_size
    sections = (text.rope_parameters or {}).get("mrope_section")
    half = text.hidden_size // text.num_attention_heads // 2
    is_split = isinstance(sections, list) and len(sections) == 3 and sum(sections) == half
    tasks, dim = list(config.task_names), config.truncate_dim
    dims = list(config.matryoshka_dims)
    yield "dtype", config.dtype, config.dtype in (None, *DTYPES), "a floating-point type"
    yield "task_names", tasks, set(tasks) == set(TASK_NAMES), ", ".join(TASK_NAMES)
    yield "truncate_dim", dim, dim in (None, *dims), f"null or one of {dims}"
    yield "mrope_section", sections, is_split, f"three numbers summing to {half}"
    yield "window_size", window, window > 0, "above 0"
