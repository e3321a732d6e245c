"""Jina Embeddings V4 on stock parts: Qwen2.5-VL, one linear projector, three PEFT adapters.

    PackedBatch ─ token embeddings + vision features ─ decoder with the task's adapter ─► (T, H)
        ├─ mean over each pooled span, normalised ─► single vectors (N, H)
        └─ projector, normalised ─────────────────► multi vectors (T, 128)

There is one engine, without padding. `forward` takes the official padded inputs and unpads them at
the door; training and `encode_*` pack from the start. The frozen vision tower runs under `no_grad`,
and no `lm_head` exists.

Shapes: N sequences, L longest of them, T tokens of the batch, H hidden size, D vector size.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import Qwen2_5_VLModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLPreTrainedModel,
    Qwen2_5_VLRotaryEmbedding,
    Qwen2_5_VLVisionRotaryEmbedding,
)

from jina.models.adapter_training import AdapterTraining
from jina.models.adapters import (
    OFFICIAL_PREFIX,
    AdapterSettings,
    adapter_parameters,
    add_adapter,
    round_to,
)
from jina.models.checkpoint import (
    Checkpoint,
    CheckpointError,
    current_name,
    official_name,
    read_tensors,
    save_checkpoint,
)
from jina.models.configuration_jina_embeddings_v4 import (
    MALFORMED,
    JinaEmbeddingsV4Config,
    read_config,
)
from jina.models.encoding import Encoder
from jina.models.lean_layers import GatedMLP, PatchEmbedding
from jina.models.packing import PackedBatch, attention_arguments, image_groups, pack
from jina.models.padding import JinaEmbeddingsV4ModelOutput, repad, unpad
from jina.models.placement import as_device, as_dtype, set_attention, tokens_per_pass
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor

__all__ = ["JinaEmbeddingsV4Model", "JinaEmbeddingsV4ModelOutput", "JinaEmbeddingsV4Processor"]


class JinaEmbeddingsV4Model(AdapterTraining, Encoder, Qwen2_5_VLPreTrainedModel):
    """Jina Embeddings V4 with its adapters, for training and inference.

    Attributes:
        processor: tokenizer and image settings of the checkpoint.
        checkpoint: the folder the weights came from, whose files a save carries over.
        adapter_settings: rank, alpha and dropout of each task's adapter.
        trained_tasks: the adapters that take gradients; none for inference.
    """

    config_class = JinaEmbeddingsV4Config

    def __init__(self, config: JinaEmbeddingsV4Config) -> None:
        super().__init__(config)
        self.model = Qwen2_5_VLModel(config)
        vision = config.vision_config
        self.model.visual.patch_embed = PatchEmbedding(
            vision.patch_size, vision.temporal_patch_size, vision.in_channels, vision.hidden_size
        )
        for layer in self.model.language_model.layers:
            layer.mlp = GatedMLP(config.text_config)
        self.multi_vector_projector = nn.Linear(
            config.text_config.hidden_size, config.multi_vector_projector_dim
        )
        self.processor: JinaEmbeddingsV4Processor | None = None
        self.checkpoint: Checkpoint | None = None
        self.adapter_settings: dict[str, AdapterSettings] = {}
        self.trained_tasks: tuple[str, ...] = ()
        self._task: str | None = None
        self._active_task: str | None = None

    # ---- loading and saving ----------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        attn_implementation: str = "auto",
        device: str | torch.device | None = None,
    ) -> "JinaEmbeddingsV4Model":
        """Read a local folder in the official layout; never the network, remote code or pickle.

        Args:
            path: the folder, with old or new tensor names, one weight file or several.
            dtype: type of the base weights; `auto` is the type named in `config.json`. Adapters are
                held in float32 at least.
            attn_implementation: `packed_sdpa`, `flash_attention_2`, or `auto`: flash attention on a
                GPU that has it and a 16-bit model, `packed_sdpa` otherwise.
            device: where the model goes; `None` is the GPU if there is one.

        Raises:
            CheckpointError: the folder isn't a sound Jina V4 checkpoint.
        """
        checkpoint = Checkpoint.open(path)
        try:
            config = read_config(checkpoint.path)
            processor = JinaEmbeddingsV4Processor.from_pretrained(checkpoint.path)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        if config.image_token_id != processor.image_token_id:
            raise CheckpointError(
                f"{checkpoint.path}: image_token_id: config.json and tokenizer.json differ; "
                f"got {config.image_token_id} and {processor.image_token_id}; fetch both again"
            )
        config.dtype = config.dtype or torch.float32 if dtype == "auto" else as_dtype(dtype)
        device = as_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        set_attention(config, attn_implementation, device)
        model = cls._empty(config, checkpoint.path / "config.json")
        model._load_base(checkpoint, device)
        for task in config.task_names:
            add_adapter(model, task, checkpoint.adapter_settings, empty=True)
            model.adapter_settings[task] = checkpoint.adapter_settings
        model.load_adapters(checkpoint.adapter_file)
        model.checkpoint = checkpoint
        model.processor = processor
        return model.eval()

    @classmethod
    def _empty(cls, config: JinaEmbeddingsV4Config, file: Path) -> "JinaEmbeddingsV4Model":
        """Build the modules without memory for their weights."""
        try:
            with torch.device("meta"):
                return cls(config)
        except (*MALFORMED, RuntimeError) as error:
            raise CheckpointError(
                f"{file}: describes no model; got {error}; fetch the file again"
            ) from error

    def _load_base(self, checkpoint: Checkpoint, device: torch.device) -> None:
        expected = {name: parameter.shape for name, parameter in self.named_parameters()}
        tensors = read_tensors(
            checkpoint.base_files,
            expected,
            rename=current_name,
            device=device,
            dtype=self.config.dtype,
        )
        self.load_state_dict(tensors, strict=False, assign=True)
        # rotary frequencies are computed, not stored, and always float32
        text, vision = self.config.text_config, self.config.vision_config
        self.model.language_model.rotary_emb = Qwen2_5_VLRotaryEmbedding(text).to(device)
        self.model.visual.rotary_pos_emb = Qwen2_5_VLVisionRotaryEmbedding(vision).to(device)

    def load_adapters(self, file: Path, *tasks: str) -> None:
        """Fill adapters, all or the named ones, from a file that holds exactly these.

        Raises:
            CheckpointError: naming every missing, extra, misshapen or non-finite tensor.
        """
        parameters: dict[str, nn.Parameter] = {}
        for task in tasks or self.config.task_names:
            parameters |= adapter_parameters(self, task)
        expected = {name: parameter.shape for name, parameter in parameters.items()}
        dtype = torch.promote_types(self.dtype, torch.float32)
        tensors = read_tensors((file,), expected, device=self.device, dtype=dtype)
        renamed = {name.removeprefix(OFFICIAL_PREFIX): t for name, t in tensors.items()}
        is_empty = any(parameter.is_meta for parameter in parameters.values())
        self.load_state_dict(renamed, strict=False, assign=is_empty)

    def save_pretrained(
        self, path: str | Path, *, adapter_dtype: torch.dtype | None = None, **_: Any
    ) -> None:
        """Write a complete folder in the official layout; only trained tasks' tensors differ.

        The adapter in memory is rounded to what the file can hold, so that the model at hand is the
        model that was saved.

        Args:
            path: the folder to write, not the one the model came from.
            adapter_dtype: type of the trained tensors in the file, the file's own if `None`.

        Raises:
            CheckpointError: the folder can't take this model.
        """
        if self.checkpoint is None:
            raise CheckpointError(
                "save_pretrained: model without a checkpoint; load it with from_pretrained"
            )
        dtype = adapter_dtype or self.checkpoint.adapter_dtype
        trained = self.trained_parameters()
        task = (*self.trained_tasks, *self.config.task_names)[0]
        settings = self.adapter_settings[task]
        factor = settings.scaling / self.checkpoint.adapter_settings.scaling
        round_to(trained, dtype, factor=factor)
        save_checkpoint(self.checkpoint, Path(path), trained, settings, dtype=dtype)

    def base_tensor_names(self) -> list[str]:
        """Return the official names of the base weights."""
        return [official_name(n) for n, _ in self.named_parameters() if ".lora_" not in n]

    # ---- the engine ------------------------------------------------------------------------

    def hidden_states(self, batch: PackedBatch, task: str) -> Tensor:
        """Run a packed batch through the decoder with a task's adapter.

        Returns:
            (T, H) states after the final norm.
        """
        self.activate(task)
        inputs = self.model.language_model.embed_tokens(batch.input_ids)
        features = self.with_vision_features(batch).vision_features
        if features is not None:
            if sum(batch.vision_tokens) != len(features):
                raise ValueError(
                    "input_ids: image tokens don't match the images; "
                    f"got {sum(batch.vision_tokens)} tokens for {len(features)} vision features; "
                    "build items with the processor"
                )
            is_image = (batch.input_ids == self.config.image_token_id).unsqueeze(-1)
            inputs = inputs.masked_scatter(is_image, features.to(inputs.dtype))
        return self.model.language_model(
            inputs_embeds=inputs.unsqueeze(0),
            position_ids=batch.position_ids.unsqueeze(1),
            attention_mask={"full_attention": None},
            use_cache=False,
            **attention_arguments(batch.lengths, inputs.device),
        ).last_hidden_state[0]

    @torch.no_grad()
    def with_vision_features(
        self, batch: PackedBatch, *, max_tokens: int | None = None
    ) -> PackedBatch:
        """Run a batch's images through the frozen vision tower, a few at a time.

        Args:
            batch: with patches, or without any image.
            max_tokens: vision tokens of one pass, but for a single larger image; if `None`, as many
                as suit the device.

        Returns:
            The batch with `vision_features` (vision tokens, H) in the place of its patches.
        """
        if batch.patches is None:
            return batch
        visual = self.model.visual
        features = []
        max_patches = (max_tokens or tokens_per_pass(self.device)) * visual.spatial_merge_unit
        for first, grids in image_groups(batch.image_grid_thw.tolist(), max_patches):
            size = sum(rows * columns for _, rows, columns in grids)
            patches = batch.patches[first : first + size]
            if patches.dtype == torch.uint8:
                patches = self.processor.image_settings.pixel_values(patches)
            found = visual(
                patches.to(visual.dtype), grid_thw=torch.tensor(grids, device=patches.device)
            )
            features.append(found.pooler_output)
        return replace(
            batch,
            patches=None,
            image_grid_thw=None,
            patch_counts=[0] * len(batch),
            vision_features=torch.cat(features),
        )

    def single_vectors(self, hidden_states: Tensor, batch: PackedBatch) -> Tensor:
        """Average each sequence's pooled span: (T, H) to (N, H), float32, of length 1."""
        wide = torch.promote_types(hidden_states.dtype, torch.float32)
        means = [
            states[start:end].mean(dim=0, dtype=wide)
            for states, (start, end) in zip(
                hidden_states.split(batch.lengths), batch.pooled, strict=True
            )
        ]
        return normalize(torch.stack(means), dim=-1)

    def multi_vectors(self, hidden_states: Tensor) -> Tensor:
        """Project every token: (T, H) to (T, D), float32, of length 1."""
        vectors = self.multi_vector_projector(hidden_states)
        return normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)

    def forward(
        self,
        task_label: str | Sequence[str],
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        output_vlm_last_hidden_states: bool = False,
        **_: Any,
    ) -> JinaEmbeddingsV4ModelOutput:
        """Embed the official padded inputs; padding may lie on either side.

        Args:
            task_label: one task, or one for each row.
            input_ids: (N, L).
            attention_mask: (N, L), 1 on real tokens.
            pixel_values: (images, max patches, 1176) filled up with zeros, or (P, 1176).
            image_grid_thw: (images, 3); images belong to the rows with image tokens, in order.
            output_vlm_last_hidden_states: return the decoder's output too.

        Raises:
            ValueError: an unknown task, a row without tokens, or images that don't match the rows.
        """
        if not len(input_ids):
            raise ValueError("input_ids: no rows; pass at least one")
        if not isinstance(task_label, str) and len(task_label) != len(input_ids):
            raise ValueError(
                f"task_label: one task, or one a row; got {len(task_label)} for {len(input_ids)}"
            )
        sequences = unpad(
            input_ids,
            attention_mask,
            pixel_values,
            image_grid_thw,
            image_token_id=self.config.image_token_id,
            merge_size=self.config.vision_config.spatial_merge_size,
        )
        labels = [task_label] * len(sequences) if isinstance(task_label, str) else list(task_label)
        rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for task in dict.fromkeys(labels):
            chosen = [row for row, label in enumerate(labels) if label == task]
            batch = pack([sequences[row] for row in chosen]).to(self.device)
            states = self.hidden_states(batch, self._known_task(task))
            parts = (x.split(batch.lengths) for x in (states, self.multi_vectors(states)))
            rows |= zip(
                chosen, zip(self.single_vectors(states, batch), *parts, strict=True), strict=True
            )
        single, hidden, multi = zip(*(rows[row] for row in range(len(sequences))), strict=True)
        mask = attention_mask.bool()
        return JinaEmbeddingsV4ModelOutput(
            vlm_last_hidden_states=repad(hidden, mask) if output_vlm_last_hidden_states else None,
            single_vec_emb=torch.stack(single),
            multi_vec_emb=repad(multi, mask),
        )
