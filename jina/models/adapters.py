"""Three ordinary PEFT LoRA adapters on one frozen model: injected, chosen, trained.

Named after Jina's tasks, their parameters carry the names of the official adapter file, save for
its leading `base_model.model.`. The vision tower never gets one: the targets are spelled out here
and not taken from a file, because the official pattern also matches vision layers under
transformers 5's names.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.functional import delete_adapter, inject_adapter_in_model, set_adapter
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from jina.models.lean_layers import LeanLora

OFFICIAL_PREFIX = "base_model.model."
TARGETS = (
    r"model\.language_model\.layers\.\d+\."
    r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)|multi_vector_projector"
)
UNSUPPORTED = ("use_dora", "use_rslora", "lora_bias", "modules_to_save", "rank_pattern",
               "alpha_pattern", "layers_to_transform", "trainable_token_indices")  # fmt: skip


@dataclass(frozen=True)
class AdapterSettings:
    """Rank, strength and regularisation of a LoRA adapter (Hu et al., arXiv 2106.09685).

    Attributes:
        rank: inner dimension of both factors.
        alpha: the update is B A x times `alpha / rank`.
        dropout: probability of dropping an input of the adapter in training.
    """

    rank: int
    alpha: float
    dropout: float

    def __post_init__(self) -> None:
        """Refuse values no adapter can have."""
        for name, is_right, wanted in (
            ("rank", type(self.rank) is int and self.rank > 0, "a whole number above 0"),
            ("alpha", isinstance(self.alpha, (int, float)) and self.alpha > 0, "above 0"),
            (
                "dropout",
                isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1,
                "from 0 to below 1",
            ),
        ):
            if not is_right:
                got = getattr(self, name)
                raise ValueError(f"{name}: out of range; got {got!r}; it must be {wanted}")

    @property
    def scaling(self) -> float:
        """Factor on the adapter's output."""
        return self.alpha / self.rank

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AdapterSettings":
        """Read the fields of an official `adapter_config.json`.

        Raises:
            ValueError: the file asks for a LoRA variant that the official layout doesn't hold.
        """
        variants = [name for name in UNSUPPORTED if values.get(name)]
        if values.get("peft_type") != "LORA" or values.get("bias", "none") != "none" or variants:
            raise ValueError(
                f"not a plain LoRA; got peft_type={values.get('peft_type')}, "
                f"bias={values.get('bias')}, {', '.join(variants) or 'no variant'}; "
                "only the official adapters' form can be trained and saved"
            )
        return cls(values["r"], values["lora_alpha"], values.get("lora_dropout", 0.0))


def add_adapter(model: nn.Module, task: str, settings: AdapterSettings, *, empty: bool) -> None:
    """Inject an adapter into every decoder projection and the multi-vector projector, frozen.

    Args:
        model: the model, changed in place.
        task: the adapter's name.
        settings: its rank, alpha and dropout.
        empty: leave its weights on the `meta` device, to be filled from a file; otherwise it starts
            as the official one did, A normal and B zero, so that it changes nothing yet.
    """
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=TARGETS,
        init_lora_weights=False if empty else "gaussian",
        inference_mode=True,
    )
    config._register_custom_module({nn.Linear: LeanLora})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # three are the point
        inject_adapter_in_model(config, model, task, low_cpu_mem_usage=empty)
    model.requires_grad_(False)


def replace_adapter(model: nn.Module, task: str, settings: AdapterSettings) -> None:
    """Put a freshly initialised adapter in the place of `task`'s, with its own settings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Adapter .* was active")  # the new one takes its place
        delete_adapter(model, task, prefix="lora_", layer_cls=LoraLayer)
    add_adapter(model, task, settings, empty=False)
    for parameter in adapter_parameters(model, task).values():
        parameter.data = parameter.data.float()


def activate_adapter(model: nn.Module, task: str) -> None:
    """Route every layer through `task`'s adapter; none takes gradients."""
    set_adapter(model, task, inference_mode=True)


def share_adapter(model: nn.Module, tasks: Sequence[str]) -> None:
    """Let all tasks have the first one's adapter: the same tensors under every name."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for factors in (module.lora_A, module.lora_B):
                for task in tasks[1:]:
                    factors[task] = factors[tasks[0]]


def set_dropout(model: nn.Module, task: str, dropout: float) -> None:
    """Set the dropout of an adapter."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            new = nn.Dropout(dropout) if dropout else nn.Identity()
            module.lora_dropout[task] = new.train(module.training)


def adapter_parameters(model: nn.Module, task: str) -> dict[str, nn.Parameter]:
    """Return the parameters of one adapter under their names in the official file."""
    marks = (f".lora_A.{task}.weight", f".lora_B.{task}.weight")
    return {
        f"{OFFICIAL_PREFIX}{name}": parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name.endswith(marks)
    }


def fit_rank(tensors: dict[str, Tensor], rank: int, factor: float) -> dict[str, Tensor]:
    """Express an adapter at another rank and scaling without changing what it computes.

    Rows of A and columns of B are filled up with zeros, which add nothing to B A, and B is
    multiplied by the ratio of the two scalings.

    Args:
        tensors: A as (r, in) and B as (out, r) under official names.
        rank: the new rank, at least r.
        factor: scaling of the adapter divided by the scaling of its new place.
    """
    fitted = {}
    for name, tensor in tensors.items():
        is_a = ".lora_A." in name
        missing = rank - tensor.shape[0 if is_a else 1]
        padding = (0, 0, 0, missing) if is_a else (0, missing)
        fitted[name] = nn.functional.pad(tensor if is_a else tensor * factor, padding)
    return fitted


def lora_layers(model: nn.Module) -> list[str]:
    """Return the names of the layers that carry an adapter."""
    return [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def round_to(parameters: dict[str, nn.Parameter], dtype: torch.dtype, *, factor: float) -> None:
    """Round an adapter in place to what a file of type `dtype` gives back.

    Args:
        parameters: A and B under official names.
        dtype: of the file.
        factor: what B is multiplied by in the file, see `fit_rank`.
    """
    for name, parameter in parameters.items():
        scale = factor if ".lora_B." in name else 1.0
        parameter.data.copy_((parameter.data * scale).to(dtype).to(parameter.dtype) / scale)
