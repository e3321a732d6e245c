"""The training step: vectors of the whole batch, one loss, gradients micro-batch by micro-batch.

    batch ─ PackedBatch ─ embed ─► vectors ─ gather_batch ─► GlobalBatch ─ ContrastiveLoss ─► scalar

Everything else, accumulation and schedules and logging to trackers, is transformers' own Trainer,
and saving and resuming `ResumableTrainer`'s. The finished model is a complete official folder.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from jina.data.batch_sampler import ContrastiveBatchSampler
from jina.data.item_lengths import row_tokens
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.flops import StepFlops, peak_tflops
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import PackedBatch, concatenate
from jina.retrieval.retrieval_metrics import evaluate_retrieval
from jina.training.callbacks import DivergedError, RunGuard, RunLog, refuse_non_finite
from jina.training.config_sections import DataSection, LossSection, TrainingSection
from jina.training.distinct_items import distinct_items, select
from jina.training.distributed import copy_from_first, sum_gradients, sum_over_processes
from jina.training.global_batch import SIDES, gather_batch
from jina.training.gradient_cache import embed
from jina.training.image_features import image_features, reload_image
from jina.training.resumable_trainer import ResumableTrainer
from jina.training.run_measures import measures_of
from jina.training.step_figures import StepFigures
from jina.training.stopping import leave_process_group
from jina.training.temperature import Temperature
from jina.training.vision_cache import RefreshEachEpoch, VisionCache


class JinaEmbeddingTrainer(ResumableTrainer):
    """transformers' Trainer with a contrastive step over packed batches.

    Args:
        model: with adapters made trainable by `train_adapters`.
        args: from `JinaTrainingConfig.training_arguments`.
        loss: what is computed.
        data: how rows are dealt into batches.
        micro_batches: how many tokens are in memory with their graphs.
        vision_cache: features of images that needn't be encoded again.
        others: as for `Trainer`, above all the data sets and the collator.
    """

    def __init__(
        self,
        model: JinaEmbeddingsV4Model,
        args: TrainingArguments,
        *,
        loss: LossSection,
        data: DataSection,
        micro_batches: TrainingSection,
        vision_cache: VisionCache | None = None,
        **others: Any,
    ) -> None:
        _ = args.device  # settles the number of GPUs,
        args._n_gpu = min(args.n_gpu, 1)  # else several would mean DataParallel, which splits dim 0
        super().__init__(model=model, args=args, **others)
        # gradients of processes are summed in `training_step`, of micro-batches in between
        model._is_accelerate_prepared = True  # so accelerate puts no DDP around it
        self.model_accepts_loss_kwargs = False  # the loss is divided by the accumulation steps
        self.data, self.micro_batches, self.vision_cache = data, micro_batches, vision_cache
        self.loss = ContrastiveLoss(
            Weights(**loss.weights.model_dump()), matryoshka_sizes(loss, model), loss.symmetric
        )
        self.temperature = Temperature(loss.temperature, learned=loss.learn_temperature)
        self.temperature.to(args.device)
        self.batch_sampler = self._sampler(self.train_dataset, args.train_batch_size)
        rank = model.adapter_settings[model.trained_tasks[0]].rank
        self._flops = StepFlops.of(model.config, rank)
        self._figures = StepFigures(peak_tflops(args.device))
        self.remove_callback(ProgressCallback if not args.disable_tqdm else PrinterCallback)
        self.add_callback(RunGuard(model))
        self.add_callback(RunLog())
        if vision_cache is not None:
            self.add_callback(RefreshEachEpoch(vision_cache))

    # ---- batches ---------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """Load the batches that the batch sampler deals, in loader processes if asked for."""
        return self._loader(self.train_dataset, self.batch_sampler)

    def get_eval_dataloader(self, eval_dataset: MultimodalDataset | None = None) -> DataLoader:
        """Load held-out rows in the same batches each time, dealt like the training rows."""
        dataset = eval_dataset or self.eval_dataset
        return self._loader(dataset, self._sampler(dataset, self.args.eval_batch_size))

    def _sampler(self, dataset: MultimodalDataset, size: int) -> ContrastiveBatchSampler:
        """Deal batches of all processes; a process loads its own rows of each."""
        measures = measures_of(self.data, self.data_collator.processor, "the trained model")
        return ContrastiveBatchSampler.of_index(
            dataset.index,
            batch_size=size * self.args.world_size,
            seed=self.args.seed,
            by_source=self.data.one_source_per_batch,
            temperature=self.data.source_temperature,
            share=(self.args.process_index, self.args.world_size),
            costs=row_tokens(dataset.index, measures),
        )

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
            worker_init_fn=leave_process_group,
            generator=torch.Generator(),  # its own, so that loading draws nothing from dropout's
        )
        # the sampler has divided the batches among processes already
        return prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )

    # ---- the step --------------------------------------------------------------------------

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute gradients as transformers does; those of all processes before an update."""
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:
            sum_gradients([*self.model.parameters(), *self.temperature.parameters()])
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Embed a contrastive batch and return this process's part of its loss.

        Raises:
            DivergedError: the loss isn't finite.
            BatchError: a query has nothing to be told apart from.
        """
        sides = [side for side in SIDES if f"{side}input_ids" in inputs]
        batch = concatenate([PackedBatch.from_dict(inputs, side) for side in sides])
        features, encoded = self._image_features(batch)
        kept, places = distinct_items(batch.contents)
        batch = select(batch, kept, features)
        own = embed(
            self.model,
            batch,
            inputs["task"],
            single=self.loss.weights.needs_single,
            multi=self.loss.weights.needs_multi,
            tokens_per_micro_batch=self.micro_batches.tokens_per_micro_batch,
            tokens_with_graph=self.micro_batches.tokens_with_graph,
            context=self.accelerator.autocast,  # accelerate wraps `forward`, which isn't called
        ).take(places)
        whole = gather_batch(inputs, own)
        whole.refuse_without_negatives(symmetric=self.loss.symmetric)
        loss, parts = self.loss(
            whole.queries,
            whole.candidates,
            whole.pairing,
            temperature=self.temperature(),
            ratings=whole.ratings,
            rows=whole.rows,
            positives=whole.positives,
        )
        names, values = zip(*parts.items(), strict=True)
        totals = dict(zip(names, sum_over_processes(torch.stack(values)), strict=True))
        if not torch.isfinite(totals["contrastive_loss"]):
            raise DivergedError(
                f"step {self.state.global_step + 1}: the loss is not finite; "
                f"got {totals['contrastive_loss'].item()}; "
                "lower training.learning_rate or raise loss.temperature"
            )
        if self.model.training:
            totals["temperature"] = self.temperature().detach()
            flops = self._flops.step(batch.lengths, encoded)
            self._figures.add(totals, whole, tokens=sum(batch.lengths), flops=flops)
        return (loss, totals) if return_outputs else loss

    def _image_features(self, batch: PackedBatch) -> tuple[dict[int, Tensor], int]:
        datasets = [d for d in (self.train_dataset, self.eval_dataset) if d is not None]
        with self.accelerator.autocast():
            return image_features(
                self.model,
                batch,
                max_tokens=self.micro_batches.tokens_per_micro_batch,
                cache=self.vision_cache,
                reload=lambda identity: reload_image(
                    identity, datasets, self.data_collator.processor
                ),
            )

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        """Return the loss of an evaluation batch, of all processes."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            _, totals = self.compute_loss(model, inputs, return_outputs=True)
        return totals["contrastive_loss"], None, None

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create transformers' optimizer; a learned temperature is one more parameter of it."""
        is_new = self.optimizer is None
        super().create_optimizer(model)
        learned = list(self.temperature.parameters())
        if is_new and learned:
            self.optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
            # transformers only clears the gradients of the model
            self.optimizer.register_step_post_hook(lambda *_: self.temperature.zero_grad())
        return self.optimizer

    # ---- what is logged --------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as transformers does; speed is counted from here."""
        copy_from_first(self.model.trained_parameters().values())
        self._figures.start()
        return super().train(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as transformers does; neither speed nor random draws of training see it."""
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with self._figures.paused(), torch.random.fork_rng(devices):
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(
        self, dataloader: DataLoader, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """Compute the loss as transformers does, and rank the rows: `eval_ndcg@5` and others.

        Raises:
            RankingError: a score isn't finite.
        """
        output = super().evaluation_loop(
            dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs
        )
        known = self.model.config.matryoshka_dims
        found = evaluate_retrieval(
            self.model,
            dataloader.dataset,
            multi=self.loss.weights.needs_multi,
            sizes=tuple(size for size in self.loss.sizes if size in known and size < max(known)),
            max_text_tokens=self.data_collator.max_text_tokens,
            tokens_per_batch=self.micro_batches.tokens_per_micro_batch,
            folder=Path(self.args.output_dir),
        )
        output.metrics.update({f"{metric_key_prefix}_{name}": v for name, v in found.items()})
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step's own figures, averaged since the last log, to what transformers logs."""
        if "loss" in logs:
            del logs["loss"]  # contrastive_loss is the same figure, of all processes
            logs |= self._figures.take()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: transformers' estimate knows neither packing nor a frozen base."""
        return 0

    # ---- what is saved ---------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the finished model.

        Raises:
            DivergedError: weights that aren't finite.
        """
        if not self.args.should_save:
            return
        refuse_non_finite(self.model.trained_parameters(), "finished model")
        self.model.save_pretrained(Path(output_dir or self.args.output_dir))


def matryoshka_sizes(loss: LossSection, model: JinaEmbeddingsV4Model) -> tuple[int, ...]:
    """Return the sizes of single vectors that are trained, in rising order, the whole last."""
    whole = model.config.text_config.hidden_size
    asked = model.config.matryoshka_dims if loss.matryoshka_dims is None else loss.matryoshka_dims
    return tuple(sorted({size for size in asked if size < whole} | {whole}))
