"""The temperature that similarities are divided by: fixed, or learned with the adapter."""

import math

import torch
from torch import Tensor, nn

from jina.training.config_sections import MIN_TEMPERATURE

MAX_TEMPERATURE = 1.0


class Temperature(nn.Module):
    """A positive number; learned through its logarithm, as in CLIP (arXiv 2103.00020).

    Args:
        start: where it starts, or what it stays.
        learned: whether it takes a gradient.
    """

    def __init__(self, start: float, *, learned: bool) -> None:
        super().__init__()
        if learned:
            self.logarithm = nn.Parameter(torch.tensor(math.log(start)))
        else:
            self.register_buffer("fixed", torch.tensor(start), persistent=False)

    def forward(self) -> Tensor:
        """Return the temperature, a scalar."""
        if not hasattr(self, "logarithm"):
            return self.fixed
        return self.logarithm.exp().clamp(MIN_TEMPERATURE, MAX_TEMPERATURE)
