"""Where and how a model computes: type of its weights, device, attention of its two towers."""

import torch
from transformers.utils import is_flash_attn_2_available

from jina.models.configuration_jina_embeddings_v4 import DTYPES, JinaEmbeddingsV4Config
from jina.models.packing import PACKED_SDPA

FLASH = "flash_attention_2"
CPU_TOKENS, GPU_TOKENS = 1024, 8192  # of a forward pass


def as_dtype(name: str | torch.dtype) -> torch.dtype:
    """Return a type to compute in; raise `ValueError` for any other."""
    found = name if isinstance(name, torch.dtype) else getattr(torch, str(name), None)
    if found not in DTYPES:
        raise ValueError(f"dtype: not a type to compute in; got {name!r}; use float32 or bfloat16")
    return found


def as_device(name: str | torch.device) -> torch.device:
    """Return a device that can hold tensors; raise `ValueError` for any other."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device: not usable here; got {name!r}; use cpu or cuda") from error
    if device.type == "meta":
        raise ValueError(f"device: holds no weights; got {name!r}; use cpu or cuda")
    return device


def tokens_per_pass(device: torch.device) -> int:
    """Return a good size of a forward pass: a GPU wants much work, a CPU what fits its caches."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def set_attention(config: JinaEmbeddingsV4Config, requested: str, device: torch.device) -> None:
    """Choose the attention of the decoder and of the vision tower, which is not causal.

    Args:
        config: changed in place; its `dtype` is the one that will be computed in.
        requested: `auto`, `packed_sdpa` or `flash_attention_2`.
        device: where the model will be.

    Raises:
        ValueError: an unknown name, or flash attention where it can't be used.
    """
    if requested == "auto":
        is_able = device.type == "cuda" and config.dtype in (torch.float16, torch.bfloat16)
        requested = FLASH if is_able and is_flash_attn_2_available() else PACKED_SDPA
    if requested not in (FLASH, PACKED_SDPA):
        raise ValueError(
            f"attn_implementation: unknown; got {requested!r}; use auto, {PACKED_SDPA} or {FLASH}"
        )
    if requested == FLASH and not is_flash_attn_2_available():
        raise ValueError(
            f"attn_implementation: flash-attn is not usable here; got {requested!r}; use auto"
        )
    vision = FLASH if requested == FLASH else "sdpa"
    config._attn_implementation = {"": vision, "text_config": requested, "vision_config": vision}
