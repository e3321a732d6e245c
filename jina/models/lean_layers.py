"""Three layers of the stock parts, with the same parameters and results, computed with less.

`LeanLora` adds its update in place, `GatedMLP` keeps two wide tensors for its backward pass instead
of four, and `PatchEmbedding` is one matrix product. Their gradients are those of the stock layers,
whose base weights are frozen.

Shapes: T tokens, H hidden size, I intermediate size, R rank, P patches.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear as StockLora
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed, Qwen2MLP


class LeanLora(StockLora):
    """PEFT's linear layer, whose update is added to the base layer's output in place.

    PEFT makes three more tensors as large as the output: update, scaled update, sum. The factors
    are cast to the type that is computed in, so that nothing is computed, or kept for the backward
    pass, in the wider type of their masters.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return base(x) + scaling * B A x of the active adapter: (…, in) to (…, out)."""
        if not self.is_adding or args or kwargs:
            return super().forward(x, *args, **kwargs)
        (task,) = self.active_adapters
        flat = x.flatten(0, -2)  # autograd copies what is changed through a view
        result = self.base_layer(flat)
        dropped = self.lora_dropout[task](flat).to(result.dtype)
        inner = linear(dropped, self.lora_A[task].weight.to(result.dtype))
        return self.add_update(result, inner).unflatten(0, x.shape[:-1])

    @property
    def is_adding(self) -> bool:
        """Whether an adapter works beside the base layer, neither switched off nor merged."""
        return not (self.disable_adapters or self.merged)

    def add_update(self, result: Tensor, inner: Tensor) -> Tensor:
        """Add scaling * B inner, of (T, R), to (T, out) in place."""
        (task,) = self.active_adapters
        factor = self.lora_B[task].weight.to(result.dtype)
        return result.addmm_(inner, factor.T, alpha=self.scaling[task])


class GatedMLP(Qwen2MLP):
    """The decoder's MLP, down(silu(gate x) * up x), which makes the product anew going back."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, H) to (…, H)."""
        down = self.down_proj
        if not (isinstance(down, LeanLora) and down.is_adding):
            return super().forward(x)
        gate, up = (project(x).flatten(0, -2) for project in (self.gate_proj, self.up_proj))
        (task,) = down.active_adapters
        factor, mask = down.lora_A[task].weight.to(gate.dtype), None
        share = 1 - getattr(down.lora_dropout[task], "p", 0.0)  # what dropout leaves
        if self.training and share < 1:
            mask = torch.empty_like(gate, dtype=torch.bool).bernoulli_(share)
            factor = factor / share
        product, inner = _GatedProduct.apply(gate, up, factor, mask)
        return down.add_update(down.base_layer(product), inner).unflatten(0, x.shape[:-1])


class _GatedProduct(torch.autograd.Function):
    """silu(gate) * up, and A times it, masked by dropout; only gate and up are kept."""

    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, up: Tensor, factor: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return (T, I) and (T, R) of gate, up and mask (T, I) and A (R, I)."""
        ctx.save_for_backward(gate, up, factor, mask)
        product = silu(gate).mul_(up)
        return product, linear(product if mask is None else product * mask, factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_product: Tensor, of_inner: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of gate, up and A."""
        gate, up, factor, mask = ctx.saved_tensors
        if mask is None:
            of_product = torch.addmm(of_product, of_inner, factor)
        else:
            of_product = (of_inner @ factor).mul_(mask).add_(of_product)
        gated = silu(gate)
        of_up = of_product * gated
        product = gated.mul_(up)
        of_factor = of_inner.T @ (product if mask is None else product.mul_(mask))
        of_gate = torch.ops.aten.silu_backward(of_product.mul_(up), gate)
        return of_gate, of_up, of_factor, None


class PatchEmbedding(Qwen2_5_VisionPatchEmbed):
    """The vision tower's first layer, a convolution that has one place in each patch to be at."""

    def forward(self, patches: Tensor) -> Tensor:
        """Map (P, colours of a patch) to (P, hidden size of the tower)."""
        weight = self.proj.weight
        return linear(patches.to(weight.dtype), weight.flatten(1))
