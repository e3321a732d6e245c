"""One task's adapter merged into the base weights, tensor by tensor.

    base file ─ W ───────────────┐
    adapter file ─ A, B ─ α/r BA ─┴─ W + α/r BA in float32 ─ cast ─► Qwen2.5-VL tensor

Nothing larger than one tensor is held, so merging needs no memory for a second model.
"""

from collections.abc import Iterator, Sequence

import torch
from safetensors import safe_open
from torch import Tensor

from jina.models.adapters import OFFICIAL_PREFIX
from jina.models.checkpoint import Checkpoint, current_name

PROJECTOR = "multi_vector_projector"


class MergedWeights:
    """The plain Qwen2.5-VL weights that compute what the base and one adapter compute.

    The checkpoint's soundness is `JinaEmbeddingsV4Model.from_pretrained`'s to check, before.

    Args:
        checkpoint: an official folder.
        task: the adapter to merge.
        dtype: type of the merged tensors.

    Attributes:
        names: the Qwen2.5-VL tensors, sorted, under transformers 5's names; the projector apart.
    """

    def __init__(self, checkpoint: Checkpoint, task: str, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._task = task
        self._scaling = checkpoint.adapter_settings.scaling
        self._adapter = safe_open(checkpoint.adapter_file, framework="pt")
        self._stored = {
            current_name(name): (reader, name) for reader, name in _tensors(checkpoint.base_files)
        }
        self._adapted = frozenset(self._adapter.keys())
        self.names = sorted(name for name in self._stored if not name.startswith(PROJECTOR))

    def __getitem__(self, name: str) -> Tensor:
        """Return one merged tensor."""
        return self._merged(name).to(self.dtype).contiguous()

    def shapes(self) -> dict[str, Tensor]:
        """Return tensors without memory that have each weight's shape and type."""
        sizes = {}
        for name in self.names:
            reader, stored = self._stored[name]
            sizes[name] = reader.get_slice(stored).get_shape()
        return {n: torch.empty(s, dtype=self.dtype, device="meta") for n, s in sizes.items()}

    def projector(self) -> dict[str, Tensor]:
        """Return the merged multi-vector projector, `weight` (D, H) and `bias` (D,), in float32."""
        return {part: self._merged(f"{PROJECTOR}.{part}") for part in ("weight", "bias")}

    def _merged(self, name: str) -> Tensor:
        reader, stored = self._stored[name]
        base = reader.get_tensor(stored).float()
        layer = f"{OFFICIAL_PREFIX}{name.removesuffix('.weight')}"
        a, b = (f"{layer}.lora_{factor}.{self._task}.weight" for factor in "AB")
        if not name.endswith(".weight") or a not in self._adapted:
            return base
        update = self._adapter.get_tensor(b).float() @ self._adapter.get_tensor(a).float()
        return base + self._scaling * update


def _tensors(files: Sequence[object]) -> Iterator[tuple[safe_open, str]]:
    for file in files:
        reader = safe_open(file, framework="pt")
        for name in reader.keys():  # noqa: SIM118 - not a mapping
            yield reader, name
