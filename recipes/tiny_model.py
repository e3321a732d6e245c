"""The tiny Jina itself: its shape, its batches, and its folder in the official layout.

    captions ─ BPE ─► tokenizer ─┐
    Shape ───────────────────────┴─ new_checkpoint ─► folder ─ train_all ─► model that learns
    model ─ write_checkpoint ─► folder in bfloat16, with adapters that change nothing yet

The product trains adapters on frozen weights. Here the adapters rest (they start at zero, and are
passed over to save time) and everything else learns.

Shapes: N items, P patches, H vector size.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from jina.models.adapters import AdapterSettings
from jina.models.checkpoint import ADAPTER_WEIGHTS, official_name
from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import PackedBatch, TokenSequence, pack
from jina.models.processing_jina_embeddings_v4 import ImageSettings
from jina.models.tiny_checkpoint import Shape, build_tiny_checkpoint
from recipes.tiny_attention import DECODER, TOWER

DEPTH = 5
SHAPE = Shape(
    text={"hidden_size": 192, "intermediate_size": 384, "num_hidden_layers": 3,
          "num_attention_heads": 6, "num_key_value_heads": 2},
    vision={"hidden_size": 192, "intermediate_size": 448, "depth": DEPTH, "num_heads": 3,
            "fullatt_block_indexes": list(range(DEPTH))},
    max_pixels=224 * 224,
    byte_pairs=6900,
    vectors={"matryoshka_dims": [48, 96, 192], "multi_vector_projector_dim": 128},
    adapter=AdapterSettings(rank=8, alpha=8, dropout=0.1),
)  # fmt: skip
TASK = "retrieval"


def new_checkpoint(folder: Path, corpus: Iterable[str], *, seed: int) -> None:
    """Write the checkpoint that pretraining starts from; its adapters change nothing."""
    build_tiny_checkpoint(folder, corpus, seed=seed, shape=SHAPE)
    adapters = load_file(folder / ADAPTER_WEIGHTS)
    for name, tensor in adapters.items():
        if ".lora_B." in name:
            tensor.zero_()
    save_file(adapters, folder / ADAPTER_WEIGHTS, {"format": "pt"})


def train_all(folder: Path) -> JinaEmbeddingsV4Model:
    """Read a checkpoint for pretraining: adapters passed over, every other weight trained."""
    model = JinaEmbeddingsV4Model.from_pretrained(folder, dtype="float32", device="cpu")
    model.activate(TASK)
    model.config.text_config._attn_implementation = DECODER
    model.config.vision_config._attn_implementation = TOWER
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.enable_adapters(False)
    for parameter in base_parameters(model).values():
        parameter.requires_grad_(True)
    return model


def base_parameters(model: JinaEmbeddingsV4Model) -> dict[str, torch.nn.Parameter]:
    """Return the weights that aren't an adapter's, by their official names."""
    return {
        official_name(name): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" not in name
    }


def image_batch(model: JinaEmbeddingsV4Model, views: Tensor) -> tuple[PackedBatch, Tensor]:
    """Run views of one size through the vision tower, with gradients.

    Args:
        model: the model.
        views: (N, 3, h, w) uint8, sides multiples of a token's.

    Returns:
        The batch, ready for the decoder, and (N, H) the mean of each picture's features.
    """
    settings = model.processor.image_settings
    patches, (rows, columns) = cut(views, settings)
    grid = torch.tensor([[1, rows, columns]] * len(views))
    features = model.model.visual(settings.pixel_values(patches), grid_thw=grid).pooler_output
    sequence = blank_sequence(model, views.shape[-1], views.shape[-2])
    batch = replace(pack([sequence] * len(views)), vision_features=features)
    return batch, features.float().view(len(views), -1, features.shape[-1]).mean(1)


def blank_sequence(model: JinaEmbeddingsV4Model, width: int, height: int) -> TokenSequence:
    """Return the tokens of an image of some size, without the image."""
    sequence = model.processor.image_sequence(Image.new("RGB", (width, height)))
    return replace(sequence, patches=None, grid_thw=None)


def cut(views: Tensor, settings: ImageSettings) -> tuple[Tensor, tuple[int, int]]:
    """Cut views of one size into (P, 588) patches as the product's `image_patches` does."""
    patch, merge = settings.patch_size, settings.merge_size
    rows, columns = views.shape[2] // patch, views.shape[3] // patch
    patches = views.view(len(views), 3, rows // merge, merge, patch, columns // merge, merge, patch)
    patches = patches.permute(0, 2, 5, 3, 6, 1, 4, 7)
    return patches.reshape(len(views) * rows * columns, -1), (rows, columns)


def text_batch(model: JinaEmbeddingsV4Model, texts: Sequence[str], prompt: str) -> PackedBatch:
    """Tokenize texts behind a prompt."""
    return pack(
        [model.processor.text_sequence(text, prompt=prompt, max_length=48) for text in texts]
    )


def embed(model: JinaEmbeddingsV4Model, batch: PackedBatch, *, multi: bool) -> Embeddings:
    """Return the vectors of a batch, with gradients."""
    states = model.hidden_states(batch, TASK)
    tokens = TokenVectors(model.multi_vectors(states), batch.lengths) if multi else None
    return Embeddings(model.single_vectors(states, batch), tokens)


def write_checkpoint(source: Path, weights: dict[str, Tensor], target: Path) -> None:
    """Write weights in bfloat16 into a new folder, all else as in the folder they started from."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    halves = {name: weights[name].detach().bfloat16().contiguous() for name in sorted(weights)}
    save_file(halves, target / "model.safetensors", {"format": "pt"})
    adapters = {n: t.bfloat16() for n, t in load_file(source / ADAPTER_WEIGHTS).items()}
    save_file(adapters, target / ADAPTER_WEIGHTS, {"format": "pt"})
    file = target / "config.json"
    text = file.read_text(encoding="utf-8").replace('"float32"', '"bfloat16"')
    file.write_text(json.dumps(json.loads(text), indent=2) + "\n", encoding="utf-8")
