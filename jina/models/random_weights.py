"""Random weights under the official names, drawn and written file by file.

    config.json ─ model without memory ─ names and shapes ─ drawn in their order ─► *.safetensors

Memory holds one file and one tensor at most, so that the true size (7.5 GB of base weights) is
written by a small machine, too.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from jina.models.adapters import AdapterSettings, adapter_parameters, add_adapter
from jina.models.checkpoint import ADAPTER_WEIGHTS, INDEX, official_name
from jina.models.configuration_jina_embeddings_v4 import TASK_NAMES, config_from_dict
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model


def write_random_weights(
    folder: Path,
    config: dict[str, Any],
    adapter: AdapterSettings,
    *,
    seed: int,
    dtype: torch.dtype,
    file_bytes: int,
) -> None:
    """Write base weights, with their index if it takes several files, and the three adapters.

    Args:
        folder: where to; it has a folder `adapters`.
        config: what `config.json` holds.
        adapter: rank of each task's adapter.
        seed: of the weights.
        dtype: of the weights.
        file_bytes: a file of base weights takes no more, but for a single larger tensor.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = JinaEmbeddingsV4Model(config_from_dict(config))
    shapes = {official_name(name): tensor.shape for name, tensor in model.named_parameters()}
    groups = list(_groups(shapes, file_bytes // dtype.itemsize))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(groups, start=1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        file = "model.safetensors" if len(groups) == 1 else file
        _write(folder / file, {name: shapes[name] for name in names}, generator, dtype)
        weight_map |= dict.fromkeys(names, file)
    if len(groups) > 1:
        size = sum(map(math.prod, shapes.values())) * dtype.itemsize
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    shapes = {}
    for task in TASK_NAMES:
        add_adapter(model, task, adapter, empty=True)
        shapes |= {name: p.shape for name, p in adapter_parameters(model, task).items()}
    _write(folder / ADAPTER_WEIGHTS, dict(sorted(shapes.items())), generator, dtype)


def _groups(shapes: Mapping[str, torch.Size], limit: int) -> Iterator[list[str]]:
    """Cut the names, in their order, into groups of at most `limit` numbers, or one tensor."""
    group: list[str] = []
    total = 0
    for name in sorted(shapes):
        size = math.prod(shapes[name])
        if group and total + size > limit:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    yield group


def _write(
    file: Path, shapes: Mapping[str, torch.Size], generator: torch.Generator, dtype: torch.dtype
) -> None:
    tensors = {n: _random_tensor(n, shape, generator).to(dtype) for n, shape in shapes.items()}
    save_file(tensors, file, {"format": "pt"})


def _random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Ones for norms, zeros for biases, and weights that keep the size of what they multiply."""
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    scale = 1.0 if "embed_tokens" in name else math.prod(shape[1:]) ** -0.5
    if ".lora_B." in name:
        scale *= 0.1  # an adapter is a small change
    return torch.randn(shape, generator=generator).mul_(scale)
