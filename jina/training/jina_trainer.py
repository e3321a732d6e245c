"""The training step: one packed forward pass for queries and candidates, then the contrastive loss.

    batch ─ split by prefix ─ concatenate ─► PackedBatch ─ model ─► (N + C, H) ─ info_nce ─► scalar

Everything else, accumulation and schedules and logging to trackers, is transformers' own Trainer.
Saved steps hold the trained adapter in float32; the finished model is a complete official folder.
"""

import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from jina.data.batch_sampler import ContrastiveBatchSampler
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.checkpoint import ADAPTER_WEIGHTS
from jina.models.losses import Pairing, info_nce, pair_candidates
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import PackedBatch, concatenate
from jina.training.callbacks import DivergedError, RunGuard, RunLog
from jina.training.config_sections import DataSection, LossSection

CANDIDATES = ("positive_", "negative_")


class BatchError(ValueError):
    """A batch that can't teach anything."""


class JinaEmbeddingTrainer(Trainer):
    """transformers' Trainer with a contrastive step over packed batches.

    Args:
        model: with one adapter made trainable by `train_adapter`.
        args: from `JinaTrainingConfig.training_arguments`.
        loss: temperature and direction.
        data: how rows are dealt into batches.
        others: as for `Trainer`, above all the data sets and the collator.
    """

    def __init__(
        self,
        model: JinaEmbeddingsV4Model,
        args: TrainingArguments,
        *,
        loss: LossSection,
        data: DataSection,
        **others: Any,
    ) -> None:
        _ = args.device  # settles the number of GPUs,
        args._n_gpu = min(args.n_gpu, 1)  # else several would mean DataParallel, which splits dim 0
        super().__init__(model=model, args=args, **others)
        self.model_accepts_loss_kwargs = False  # the loss is divided by the accumulation steps
        self.loss = loss
        self.batch_sampler = ContrastiveBatchSampler.of_index(
            self.train_dataset.index,
            batch_size=args.train_batch_size,
            seed=args.seed,
            by_source=data.one_source_per_batch,
            temperature=data.source_temperature,
        )
        self._since_log: list[dict[str, float]] = []
        self._last_log = 0.0
        self.remove_callback(ProgressCallback if not args.disable_tqdm else PrinterCallback)
        self.add_callback(RunGuard(model))
        self.add_callback(RunLog())

    # ---- batches ---------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """Load the batches that the batch sampler deals, in loader processes if asked for."""
        return self._loader(self.train_dataset, self.batch_sampler)

    def get_eval_dataloader(self, eval_dataset: MultimodalDataset | None = None) -> DataLoader:
        """Load held-out rows in the same batches each time, dealt like the training rows."""
        dataset = eval_dataset or self.eval_dataset
        sampler = ContrastiveBatchSampler.of_index(
            dataset.index, batch_size=self.args.eval_batch_size, seed=self.args.seed
        )
        return self._loader(dataset, sampler)

    def _loader(
        self, dataset: MultimodalDataset, batch_sampler: ContrastiveBatchSampler
    ) -> DataLoader:
        loader = DataLoader(
            dataset,
            batch_sampler=batch_sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type != "cpu",
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        return self.accelerator.prepare(loader)

    # ---- the step --------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Embed a contrastive batch and return its loss.

        Raises:
            DivergedError: the loss isn't finite.
            BatchError: a query has nothing to be told apart from.
        """
        pairing = pairing_of(inputs)
        parts = [PackedBatch.from_dict(inputs, prefix) for prefix in ("query_", *_present(inputs))]
        batch = concatenate(parts)
        with self.accelerator.autocast():  # accelerate wraps `forward`, which isn't called here
            vectors = model.single_vectors(model.hidden_states(batch, inputs["task"]), batch)
        queries, candidates = vectors.split([len(parts[0]), len(vectors) - len(parts[0])])
        loss = self._contrastive_loss(queries, candidates, pairing, inputs["positive_owners"])
        if not torch.isfinite(loss):
            raise DivergedError(
                f"step {self.state.global_step + 1}: the loss is not finite; got {loss.item()}; "
                "lower training.learning_rate or raise loss.temperature"
            )
        if model.training:
            self._note(loss, queries, candidates, pairing, tokens=sum(batch.lengths))
        return (loss, vectors) if return_outputs else loss

    def _contrastive_loss(
        self, queries: Tensor, candidates: Tensor, pairing: Pairing, owners: Tensor
    ) -> Tensor:
        temperature = self.loss.temperature
        loss = info_nce(queries, candidates, pairing, temperature=temperature)
        if not self.loss.symmetric:
            return loss
        positives, back = candidates[: len(owners)], pairing.reversed(len(owners))
        return (loss + info_nce(positives, queries, back, temperature=temperature)) / 2

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        """Return the loss of an evaluation batch."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

    # ---- what is logged --------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as transformers does; speed is counted from here."""
        self._last_log = time.perf_counter()
        return super().train(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as transformers does, without counting it against the training speed."""
        started = time.perf_counter()
        metrics = super().evaluate(*args, **kwargs)
        self._last_log += time.perf_counter() - started
        return metrics

    def _note(
        self, loss: Tensor, queries: Tensor, candidates: Tensor, pairing: Pairing, *, tokens: int
    ) -> None:
        similarities = (queries @ candidates.T).detach()
        self._since_log.append(
            {
                "contrastive_loss": loss.item(),
                "positive_similarity": similarities[pairing.is_positive].mean().item(),
                "negative_similarity": similarities[pairing.is_negative].mean().item(),
                "pairs": int(pairing.is_positive.sum()),
                "tokens": tokens,
            }
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step's own figures, averaged since the last log, to what transformers logs."""
        if self._since_log and "loss" in logs:
            steps, seconds = self._since_log, time.perf_counter() - self._last_log
            for name in ("contrastive_loss", "positive_similarity", "negative_similarity"):
                logs[name] = sum(step[name] for step in steps) / len(steps)
            for name in ("pairs", "tokens"):
                logs[f"{name}_per_second"] = sum(step[name] for step in steps) / seconds
            del logs["loss"]  # the same figure, under transformers' name
            self._since_log, self._last_log = [], time.perf_counter()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: transformers' estimate knows neither packing nor a frozen base."""
        return 0

    # ---- what is saved ---------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the finished model, or for a step's checkpoint only the adapter, in float32."""
        folder = Path(output_dir or self.args.output_dir)
        if not _internal_call:
            self.model.save_pretrained(folder)
            return
        file = folder / ADAPTER_WEIGHTS
        file.parent.mkdir(parents=True, exist_ok=True)
        parameters = self.model.trained_parameters()
        tensors = {name: p.detach().cpu().contiguous() for name, p in parameters.items()}
        save_file(tensors, file, {"format": "pt"})

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        file = Path(resume_from_checkpoint, ADAPTER_WEIGHTS)
        self.model.load_adapters(file, self.model.trained_task)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def pairing_of(batch: dict[str, Any]) -> Pairing:
    """Sort out positives and negatives of a batch.

    Raises:
        BatchError: a query has no negative; its loss would be zero whatever the model does.
    """
    candidates = torch.cat([batch[f"{prefix}identities"] for prefix in _present(batch)])
    pairing = pair_candidates(
        batch["query_identities"], candidates, owners=batch["positive_owners"]
    )
    lonely = (~pairing.is_negative.any(dim=1)).nonzero().flatten().tolist()
    if lonely:
        raise BatchError(
            f"batch: queries without any negative; got rows {lonely} whose every candidate has the "
            "content of a positive; raise training.per_device_train_batch_size"
        )
    return pairing


def _present(batch: dict[str, Any]) -> list[str]:
    """Prefixes of the batch's candidates: it may have no hard negatives."""
    return [prefix for prefix in CANDIDATES if f"{prefix}input_ids" in batch]
