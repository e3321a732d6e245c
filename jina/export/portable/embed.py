"""Embed texts and images with this folder's merged model, on nothing but transformers.

This file is copied into folders of `--format merged` and stands alone:

    from embed import MergedModel
    model = MergedModel("path/to/this/folder")
    vector = model.single_vector({"text": "hello world"}, prompt="Query: ")
    rows = model.multi_vectors({"image": image})  # upright RGB, from Pillow

A text is pooled over all tokens, an image over its vision span, an image with a text over both.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import linear, normalize
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration


class MergedModel:
    """A merged model and its multi-vector projector.

    Args:
        folder: the exported folder.
        device: where the model goes; the GPU if there is one.
    """

    def __init__(self, folder: str | Path, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.processor = AutoProcessor.from_pretrained(folder)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
        self.model = model.model.eval().to(self.device)
        projector = load_file(Path(folder, "multi_vector_projector.safetensors"))
        self.projector = [projector[part].to(self.device) for part in ("weight", "bias")]

    def single_vector(self, item: dict[str, Any], prompt: str = "Query: ") -> Tensor:
        """Embed one item, `text`, `image` or both, as one vector (H,) of length 1."""
        states, ids = self._states(item, prompt)
        start, end = self._pooled_span(item, ids)
        return normalize(states[start:end].mean(dim=0), dim=-1)

    def multi_vectors(self, item: dict[str, Any], prompt: str = "Query: ") -> Tensor:
        """Embed one item as one vector a token, (L, D), each of length 1."""
        states, _ = self._states(item, prompt)
        return normalize(linear(states, *self.projector), dim=-1)

    @torch.no_grad()
    def _states(self, item: dict[str, Any], prompt: str) -> tuple[Tensor, list[int]]:
        content = [{"type": kind, kind: item[kind]} for kind in ("image", "text") if kind in item]
        turns = [
            {"role": "system", "content": [{"type": "text", "text": prompt}]},
            {"role": "user", "content": content},
        ]
        inputs = self.processor.apply_chat_template(
            [turns], tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self.device)
        states = self.model(**inputs, use_cache=False).last_hidden_state[0].float()
        return states, inputs["input_ids"][0].tolist()

    def _pooled_span(self, item: dict[str, Any], ids: list[int]) -> tuple[int, int]:
        if "image" not in item:
            return 0, len(ids)
        token_id = self.processor.tokenizer.convert_tokens_to_ids
        start = ids.index(token_id("<|vision_start|>"))
        if "text" in item:
            return start, len(ids) - 1 - ids[::-1].index(token_id("<|im_end|>"))
        return start, ids.index(token_id("<|vision_end|>")) + 1
