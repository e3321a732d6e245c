"""Several processes, one batch: rows of all of them gathered, gradients brought back exactly.

    own rows (n, …) ─ gather_rows ─► all rows (N, …) ─ own part of the loss ─► gradient (N, …)
    own gradient (n, …) ◄─ sum over processes, own rows of it ◄─────────────────────┘

Processes may have different numbers of rows, none included. In a single process all of this is the
identity. Everything that processes do together is in this file, in an order that is the same in
each of them.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from jina.training.config_sections import TrainingSection


def join(training: TrainingSection) -> None:
    """Join the other processes, if a launcher started any.

    transformers does it, too, but on CPUs it leaves out `ddp_timeout`: a process would wait half an
    hour for one that hangs.
    """
    if training.use_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        timeout = timedelta(seconds=training.ddp_timeout)
        PartialState(cpu=True, backend=training.ddp_backend, timeout=timeout)


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()


def gather_sizes(sizes: Sequence[int], device: torch.device) -> list[list[int]]:
    """Return every process's numbers, in the order of the processes."""
    if world_size() == 1:
        return [list(sizes)]
    own = torch.tensor(sizes, device=device)
    found = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(found, own)
    return torch.stack(found).tolist()


def gather_stacked(tensor: Tensor, device: torch.device) -> Tensor:
    """Return every process's tensor of one shape, stacked in their order, on the CPU."""
    if world_size() == 1:
        return tensor[None].cpu()
    own = tensor.to(device).contiguous()
    found = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(found, own)
    return torch.stack(found).cpu()


def gather_rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Lay every process's rows of each tensor end to end, in the order of the processes.

    The gradient of a process's rows is the sum of what all processes' losses make of them.

    Args:
        tensors: (n_i, …) each, of equal further dimensions in all processes.

    Returns:
        (N_i, …) each.
    """
    if world_size() == 1 or not tensors:
        return list(tensors)
    sizes = gather_sizes([len(tensor) for tensor in tensors], tensors[0].device)
    return list(_Gather.apply(sizes, *tensors))


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of all processes' tensors of one shape, without a gradient."""
    if world_size() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place and in one exchange."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(
        gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(total.view_as(gradient))


def copy_from_first(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every process the first one's values."""
    if world_size() > 1:
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)


class _Gather(torch.autograd.Function):
    """All tensors in one node, so that every process comes by the same exchanges."""

    @staticmethod
    def forward(ctx: Any, sizes: list[list[int]], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Gather tensors whose `sizes` are known for each process and tensor."""
        ctx.sizes = sizes
        return tuple(
            _gather([of_process[place] for of_process in sizes], tensor)
            for place, tensor in enumerate(tensors)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Sum what all processes found, and take the own rows of it."""
        own: list[Tensor | None] = [None]
        for place, gradient in enumerate(gradients):
            if gradient is None:
                own.append(None)
                continue
            first = sum(of_process[place] for of_process in ctx.sizes[: rank()])
            total = gradient.contiguous()
            if len(total):
                dist.all_reduce(total)
            own.append(total[first : first + ctx.sizes[rank()][place]])
        return tuple(own)


def _gather(sizes: list[int], tensor: Tensor) -> Tensor:
    """Exchange tensors of one length, the longest process's, and cut off what was filled in."""
    if not any(sizes):
        return tensor
    filled = tensor.new_zeros(max(sizes), *tensor.shape[1:])
    filled[: len(tensor)] = tensor
    found = [torch.empty_like(filled) for _ in sizes]
    dist.all_gather(found, filled)
    return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])
