"""What training knows beside the weights, as tensors, numbers and lists: nothing to be run.

    optimizer ─ state of each parameter under its name ─► tensors; settings of its groups ─► JSON
    scheduler ─► JSON
    random numbers of torch, CUDA, numpy and Python ─► integer tensors, a row of each process

Reading is strict: what is stored must be what the optimizer, scheduler and process at hand have.
"""

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from jina.models.checkpoint import CheckpointError
from jina.training.checkpointing import OPTIMIZER, STATE

PYTHON_VERSION, NUMPY_NAME = 3, "MT19937"  # of the generators' states


def stored_tensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: it isn't one.
    """
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"{file}: unreadable; got {error}; not used") from error


def optimizer_contents(
    optimizer: Optimizer, names: Mapping[nn.Parameter, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors and JSON values.

    Args:
        optimizer: of parameters that all have a name.
        names: of the parameters.

    Returns:
        Tensors under `parameter|key`, and groups and numbers for JSON.
    """
    ordered = _names_in_order(optimizer, names)
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    stored = optimizer.state_dict()
    for place, values in stored["state"].items():
        for key, value in values.items():
            target = tensors if isinstance(value, Tensor) else numbers
            target[f"{ordered[place]}|{key}"] = value
    groups = [
        {**group, "params": [ordered[place] for place in group["params"]]}
        for group in stored["param_groups"]
    ]
    return tensors, {"groups": groups, "numbers": numbers}


def restore_optimizer(
    optimizer: Optimizer,
    names: Mapping[nn.Parameter, str],
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    *,
    where: Path,
    keep_settings: bool = False,
) -> None:
    """Give an optimizer a stored state.

    Args:
        optimizer: freshly made for the same parameters.
        names: of the parameters.
        tensors: as `optimizer_contents` returned them.
        values: likewise.
        where: the checkpoint, for messages.
        keep_settings: whether learning rate and the like stay as they are at hand.

    Raises:
        CheckpointError: another optimizer's state, or tensors that can't be of these parameters.
    """
    current = optimizer.state_dict()["param_groups"]
    ordered = _names_in_order(optimizer, names)
    groups = [{**g, "params": [ordered[i] for i in g["params"]]} for g in current]
    _require_same_groups(values["groups"], groups, where / STATE)
    shapes = {name: parameter.shape for parameter, name in names.items()}
    places = {name: place for place, name in enumerate(ordered)}
    state: dict[int, dict[str, Any]] = {}
    for full_name, value in (*tensors.items(), *values["numbers"].items()):
        name, _, key = full_name.rpartition("|")
        if name not in places or isinstance(value, Tensor) and _is_wrong(value, shapes[name]):
            file = where / (OPTIMIZER if full_name in tensors else STATE)
            raise CheckpointError(f"{file}: {full_name}: not of this optimizer; not used")
        state.setdefault(places[name], {})[key] = value
    chosen = current if keep_settings else values["groups"]
    merged = [{**new, "params": old["params"]} for new, old in zip(chosen, current, strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": merged})


def restore_scheduler(
    scheduler: Any, values: Mapping[str, Any], *, where: Path, replayed_steps: int | None = None
) -> None:
    """Give a learning rate scheduler a stored state.

    Args:
        scheduler: freshly made.
        values: its `state_dict()` as JSON kept it.
        where: the checkpoint, for messages.
        replayed_steps: with it, the scheduler takes so many steps of its own instead, which a
            changed schedule needs.

    Raises:
        CheckpointError: another scheduler's state.
    """
    if replayed_steps is not None:
        scheduler.optimizer._opt_called = True  # it has been, in the run that is resumed
        for _ in range(replayed_steps):
            scheduler.step()
        return
    if values.keys() != scheduler.state_dict().keys():
        raise CheckpointError(f"{where / STATE}: the state of another scheduler; not used")
    scheduler.load_state_dict(dict(values))


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of this process's random number generators, each a vector of integers."""
    _, words, python_gauss = random.getstate()
    _, key, position, has_gauss, numpy_gauss = np.random.get_state()
    gauss = [float(python_gauss is not None), python_gauss or 0.0, float(has_gauss), numpy_gauss]
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words),
        "numpy": torch.tensor([*key.tolist(), position]),
        "gauss": torch.tensor(gauss, dtype=torch.float64),  # the second of a pair, if one is left
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Put this process's random number generators back, CUDA's of the current device."""
    has_python, python_gauss, has_numpy, numpy_gauss = state["gauss"].tolist()
    words, numbers = state["python"].tolist(), state["numpy"].tolist()
    random.setstate((PYTHON_VERSION, tuple(words), python_gauss if has_python else None))
    key = np.array(numbers[:-1], dtype=np.uint32)
    np.random.set_state((NUMPY_NAME, key, numbers[-1], int(has_numpy), numpy_gauss))
    torch.set_rng_state(state["torch"].clone())  # torch misreads a view into a larger tensor
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].clone())


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of floating-point tensors that hold anything but finite numbers."""
    floats = ((n, t.detach()) for n, t in tensors.items() if t.is_floating_point() and t.numel())
    return [name for name, tensor in floats if not torch.isfinite(tensor).all()]


def _names_in_order(optimizer: Optimizer, names: Mapping[nn.Parameter, str]) -> list[str]:
    """Return the names of an optimizer's parameters as its `state_dict` numbers them."""
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _require_same_groups(
    stored: Iterable[Mapping[str, Any]], current: Iterable[Mapping[str, Any]], file: Path
) -> None:
    """Raise unless two optimizers have the same settings, and the same parameters in each group."""

    def shape_of(groups: Iterable[Mapping[str, Any]]) -> list[tuple[list[str], set[str]]]:
        """Return the parameters and the names of the settings of each group."""
        return [(group["params"], set(group)) for group in groups]

    if shape_of(stored) != shape_of(current):
        raise CheckpointError(f"{file}: the state of another optimizer; not used")


def _is_wrong(tensor: Tensor, shape: torch.Size) -> bool:
    """Whether a tensor can't be part of the state of a parameter of a shape."""
    pairs = zip(tensor.shape, shape, strict=False)  # Adafactor's have a dimension summed up
    is_misshapen = tensor.ndim == len(shape) and any(own not in (1, size) for own, size in pairs)
    return is_misshapen or bool(non_finite({"": tensor}))
