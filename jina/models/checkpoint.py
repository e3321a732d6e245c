"""The official directory layout: read strictly, written back with only the trained task changed.

    config.json, preprocessor_config.json, tokenizer.json, …   small files, copied byte for byte
    model.safetensors or model-0000x-of-0000y.safetensors      base weights, linked or copied
    adapters/adapter_config.json, adapter_model.safetensors    three tasks in one file

A folder is untrusted: tensors come from safetensors only, names in an index may not leave the
folder, and any missing, extra, misshapen or non-finite tensor stops the load with its name.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from jina.models.adapters import AdapterSettings, fit_rank

INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapters/adapter_config.json"
ADAPTER_WEIGHTS = "adapters/adapter_model.safetensors"
REQUIRED = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
)
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
SHOWN = 20


class CheckpointError(ValueError):
    """A folder that is not a sound Jina V4 checkpoint, or can't be written."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds the files of a Jina V4 checkpoint.

    Attributes:
        path: the folder.
        base_files: safetensors files with the base weights.
        adapter_settings: rank, alpha and dropout shared by the three adapters.
    """

    path: Path
    base_files: tuple[Path, ...]
    adapter_settings: AdapterSettings

    @classmethod
    def open(cls, path: str | Path) -> "Checkpoint":
        """Check that a folder has the official layout; tensors are not read yet.

        Raises:
            CheckpointError: what is missing, and what to do.
        """
        folder = Path(path)
        advice = "give a folder in the official layout, or run `make demo`, which needs no download"
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder; got {str(path)!r}; {advice}")
        missing = [name for name in REQUIRED if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{folder}: not a Jina Embeddings V4 checkpoint; "
                f"got no {', '.join(missing)}; {advice}"
            )
        config = _read_json(folder / "config.json")
        if config.get("architectures") != ["JinaEmbeddingsV4Model"]:
            raise CheckpointError(
                f"{folder / 'config.json'}: not a Jina Embeddings V4 model; "
                f"got architectures {config.get('architectures')}; {advice}"
            )
        try:
            settings = AdapterSettings.from_dict(_read_json(folder / ADAPTER_CONFIG))
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{folder / ADAPTER_CONFIG}: {error}") from error
        return cls(folder, _base_files(folder), settings)

    @property
    def adapter_file(self) -> Path:
        """The file with the three adapters."""
        return self.path / ADAPTER_WEIGHTS

    @property
    def adapter_dtype(self) -> torch.dtype:
        """Type in which the file stores the adapters."""
        _, tensor = next(_stored_tensors(self.adapter_file, "cpu"))
        return tensor.dtype

    def small_files(self) -> list[Path]:
        """Files to carry over unchanged: all but weights, pickles and hidden files."""
        return [
            file
            for file in sorted([*self.path.iterdir(), *(self.path / "adapters").iterdir()])
            if file.is_file()
            and not file.name.startswith(".")
            and file.suffix not in PICKLES | {".safetensors"}
        ]


def official_name(name: str) -> str:
    """Return the name a base parameter has in the official files, given its name in the model."""
    name = name.replace(".base_layer.", ".")
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return re.sub(r"^model\.language_model\.", "model.", name)


def current_name(stored: str) -> str:
    """Return the model's name of a stored base tensor, whether the file uses old or new names."""
    if stored.startswith("visual."):
        return f"model.{stored}"
    return re.sub(r"^model\.(?!language_model\.|visual\.)", "model.language_model.", stored)


def read_tensors(
    files: tuple[Path, ...],
    expected: Mapping[str, torch.Size],
    *,
    rename: Callable[[str], str] = str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Read exactly the expected tensors out of safetensors files.

    Args:
        files: read in order.
        expected: shape of each tensor under its name in the model.
        rename: turns a stored name into a name in the model.
        device: where the tensors go.
        dtype: what they are cast to; `None` keeps the stored type.

    Raises:
        CheckpointError: an unreadable file, or every missing, extra, repeated, misshapen or
            non-finite tensor.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    for file in files:
        for stored, tensor in _stored_tensors(file, device):
            name = rename(stored)
            problem = _problem(tensor, expected.get(name), repeated=name in tensors)
            if problem:
                problems.append(f"{file}: {stored}: {problem}")
            tensors[name] = tensor if dtype is None else tensor.to(dtype)
    missing = sorted(expected.keys() - tensors.keys())
    problems += [f"{files[0].parent}: {name}: missing tensor" for name in missing]
    if problems:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise CheckpointError("\n".join([*problems[:SHOWN], *more]))
    return tensors


def _problem(tensor: Tensor, shape: torch.Size | None, *, repeated: bool) -> str | None:
    if shape is None:
        return f"tensor the model doesn't have; got shape {tuple(tensor.shape)}"
    if repeated:
        return "stored twice"
    if tensor.shape != shape:
        return f"wrong shape; got {tuple(tensor.shape)}; expected {tuple(shape)}"
    if not tensor.is_floating_point():
        return f"not a floating-point tensor; got {tensor.dtype}"
    if tensor.numel() and not all(torch.isfinite(edge) for edge in tensor.aminmax()):
        return "values that are not finite"
    return None


def _stored_tensors(file: Path, device: torch.device | str) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(file, framework="pt", device=str(device)) as reader:
            for name in reader.keys():  # noqa: SIM118 - not a mapping
                yield name, reader.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: unreadable weights; got {error}; fetch the file again"
        ) from error


def _base_files(folder: Path) -> tuple[Path, ...]:
    present = {file.name for file in folder.glob("*.safetensors")}
    named = {"model.safetensors"}
    if (folder / INDEX).is_file():
        weight_map = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(name, str) for name in weight_map.values()
        ):
            raise CheckpointError(
                f"{folder / INDEX}: no map from tensors to files; got {str(weight_map)[:80]}; "
                "fetch the file again"
            )
        named = set(weight_map.values())
    if named != present:
        raise CheckpointError(
            f"{folder}: weight files don't match; got {sorted(present)}; "
            f"expected {sorted(named)} and no other .safetensors file"
        )
    return tuple(folder / name for name in sorted(present))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: not valid JSON; got {error}; fetch the file again"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{file}: not a JSON object; got {type(values).__name__}; fetch the file again"
        )
    return values


def save_checkpoint(
    source: Checkpoint,
    target: Path,
    trained: Mapping[str, Tensor],
    settings: AdapterSettings,
    *,
    dtype: torch.dtype,
) -> None:
    """Write a complete official folder that differs from its source in one task's adapter.

    Base weights are hard-linked where the file system allows and copied otherwise.

    Args:
        source: the checkpoint the model was loaded from.
        target: the folder to write; it may exist.
        trained: tensors of the trained adapter under official names; empty for an unchanged copy.
        settings: rank and alpha of the trained adapter.
        dtype: type of the trained tensors in the file.

    Raises:
        CheckpointError: the target is the source, or holds other weights.
    """
    own = {file.name: file for file in source.base_files}
    foreign = sorted(
        file.name
        for file in target.glob("*.safetensors")
        if file.name not in own or not _is_same_weights(file, own[file.name])
    )
    if target.resolve() == source.path.resolve() or foreign:
        raise CheckpointError(
            f"{target}: can't save here; got {', '.join(foreign) or 'the base model itself'}; "
            "choose an empty folder"
        )
    (target / "adapters").mkdir(parents=True, exist_ok=True)
    for file in source.base_files:
        new = target / file.name
        if not (new.exists() and new.samefile(file)):
            _replace(new, lambda staged, file=file: _link_or_copy(file.resolve(), staged))
    for file in source.small_files():
        _replace(
            target / file.relative_to(source.path),
            lambda new, file=file: shutil.copyfile(file, new),
        )
    _save_adapters(source, target, trained, settings, dtype)


def _save_adapters(
    source: Checkpoint,
    target: Path,
    trained: Mapping[str, Tensor],
    settings: AdapterSettings,
    dtype: torch.dtype,
) -> None:
    """Write the adapter file; a larger rank than the file's widens all three tasks, with zeros."""
    stored = load_file(source.adapter_file)
    official = source.adapter_settings
    kept = {name: tensor for name, tensor in stored.items() if name not in trained}
    if trained and settings.rank > official.rank:
        kept = fit_rank(kept, settings.rank, 1.0)
        official = AdapterSettings(
            settings.rank, official.scaling * settings.rank, official.dropout
        )
        values = {
            **_read_json(source.path / ADAPTER_CONFIG),
            "r": official.rank,
            "lora_alpha": official.alpha,
        }
        _replace(target / ADAPTER_CONFIG, lambda new: new.write_text(json.dumps(values, indent=2)))
    cpu = {name: tensor.detach().cpu() for name, tensor in trained.items()}
    fitted = fit_rank(cpu, official.rank, settings.scaling / official.scaling)
    new = {name: tensor.to(dtype).contiguous() for name, tensor in fitted.items()}
    tensors = {name: kept[name] if name in kept else new[name] for name in stored}
    _replace(target / ADAPTER_WEIGHTS, lambda file: save_file(tensors, file, {"format": "pt"}))


def _is_same_weights(file: Path, other: Path) -> bool:
    """Whether two weight files are one, or copies as far as size and beginning can tell."""
    if file.samefile(other):
        return True
    with file.open("rb") as a, other.open("rb") as b:
        return file.stat().st_size == other.stat().st_size and a.read(2**20) == b.read(2**20)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    """Write beside the file, flush to disk, rename: a reader sees the old file or the new one."""
    staged = file.with_name(f".{file.name}.staged")
    with contextlib.suppress(FileNotFoundError):
        staged.unlink()
    write(staged)
    with staged.open("rb") as handle:
        os.fsync(handle.fileno())
    staged.replace(file)
