"""What watches a run: a guard that stops it when it doesn't train, and a log a person can read."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from jina.training.training_state import non_finite

logger = logging.getLogger("smartembed")

# Words of a log line, and how each figure is written.
LOG_WORDS = {
    "contrastive_loss": "loss {:.4f}",
    "single_loss": "single {:.4f}",
    "multi_loss": "multi {:.4f}",
    "kl_loss": "kl {:.4f}",
    "eval_loss": "loss {:.4f}",
    "eval_ndcg@5": "nDCG@5 {:.4f}",
    "eval_recall@10": "recall@10 {:.4f}",
    "eval_multi_ndcg@5": "multi nDCG@5 {:.4f}",
    "eval_spearman": "Spearman {:.4f}",
    "grad_norm": "gradient {:.3g}",
    "learning_rate": "rate {:.2e}",
    "positive_similarity": "positives {:+.3f}",
    "negative_similarity": "negatives {:+.3f}",
    "pairs_per_second": "{:.3g} pairs/s",
    "tokens_per_second": "{:,.0f} tokens/s",
    "tflops_per_second": "{:.3g} TFLOP/s",
    "share_of_peak": "{:.0%} of the GPU's peak",
}


class DivergedError(RuntimeError):
    """Training that can't go on: a loss, a gradient or an update went wrong."""


def refuse_non_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `DivergedError` before values are saved that are no numbers."""
    wrong = non_finite(tensors)
    if wrong:
        raise DivergedError(
            f"{where}: values that are not finite, nothing is saved; got {len(wrong)}, first "
            f"{wrong[0]}; lower training.learning_rate"
        )


class RunGuard(TrainerCallback):
    """Stop before an update with a gradient that isn't finite, and after a first that went wrong.

    Args:
        model: watched by checksums of its parameters, so that nothing is held twice.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._before: dict[str, int] | None = None
        self._is_checked = False

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the gradients; before the first real update, take the checksums."""
        gradients = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        wrong = [name for name, grad in gradients.items() if not torch.isfinite(grad).all()]
        if wrong:
            raise DivergedError(
                f"step {state.global_step + 1}: gradients that are not finite; got {len(wrong)}, "
                f"first {wrong[0]}; lower training.learning_rate"
            )
        is_warm = any(group["lr"] > 0 for group in kwargs["optimizer"].param_groups)
        if is_warm and not self._is_checked:
            self._before = checksums(self.model)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After the first update with a learning rate above zero, see what moved."""
        if self._before is None or self._is_checked:
            return
        after = checksums(self.model)
        moved = {name for name, value in after.items() if value != self._before[name]}
        trainable = {n for n, p in self.model.named_parameters() if p.requires_grad}
        if not moved & trainable or moved - trainable:
            raise DivergedError(
                f"step {state.global_step + 1}: the update went wrong; got "
                f"{len(moved & trainable)} of {len(trainable)} trainable tensors moved and "
                f"{len(moved - trainable)} frozen ones {sorted(moved - trainable)[:3]}; report this"
            )
        self._before, self._is_checked = None, True


class RunLog(TrainerCallback):
    """Write one line a logged step, in place of transformers' progress bar and dictionaries."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the figures of a step or an evaluation."""
        logs = kwargs["logs"]
        figures = [words.format(logs[name]) for name, words in LOG_WORDS.items() if name in logs]
        if figures and state.is_world_process_zero:
            is_evaluation = any(name.startswith("eval_") for name in logs)
            what = "held-out" if is_evaluation else "step"
            line = "  ".join(figures)
            logger.info(
                "%8s %*d/%d  %s",
                what,
                len(str(state.max_steps)),
                state.global_step,
                state.max_steps,
                line,
            )


def checksums(model: nn.Module) -> dict[str, int]:
    """Sum the bits of each parameter as integers: exact, and equal only for unmoved weights."""
    widths = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return {
        name: int(p.detach().view(widths[p.element_size()]).sum(dtype=torch.int64))
        for name, p in model.named_parameters()
    }
