"""How much arithmetic a training step is: counted from real tokens, compared with the hardware.

A multiplication and an addition count as two operations. Counted is what a step needs at least, so
what gradient caching or checkpointing run twice counts once: forward and backward through the
decoder, without gradients of frozen weights, and one forward pass of the vision tower.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jina.models.configuration_jina_embeddings_v4 import JinaEmbeddingsV4Config

TERA = 1e12
# Dense bfloat16 operations a second, from the makers' data sheets; the first name found counts.
PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}


@dataclass(frozen=True)
class StepFlops:
    """What of a model decides about the arithmetic of a step.

    Attributes:
        decoder: weights that a decoder token is multiplied with.
        adapter: LoRA weights that it is multiplied with.
        attention: decoder layers times width of all their heads.
        vision: weights that a patch is multiplied with.
        patches_per_token: of the vision tower.
    """

    decoder: int
    adapter: int
    attention: int
    vision: int
    patches_per_token: int

    @classmethod
    def of(cls, config: JinaEmbeddingsV4Config, rank: int) -> "StepFlops":
        """Count the weights of a model with adapters of some rank."""
        text, vision = config.text_config, config.vision_config
        width, inner, layers = text.hidden_size, text.intermediate_size, text.num_hidden_layers
        heads = text.num_attention_heads
        keys = width // heads * text.num_key_value_heads
        shapes = [(width, width), (width, keys), (width, keys), (width, width)]
        shapes += [(width, inner), (width, inner), (inner, width)]
        side, deep = vision.hidden_size, vision.intermediate_size
        merged = side * vision.spatial_merge_size**2
        colours = 3 * vision.temporal_patch_size * vision.patch_size**2
        return cls(
            decoder=layers * sum(a * b for a, b in shapes),
            adapter=layers * sum(rank * (a + b) for a, b in shapes),
            attention=layers * width,
            vision=vision.depth * (4 * side * side + 3 * side * deep)
            + colours * side
            + merged * (merged + width) // vision.spatial_merge_size**2,
            patches_per_token=vision.spatial_merge_size**2,
        )

    def step(self, lengths: Sequence[int], vision_tokens: int) -> float:
        """Return the operations of one step on sequences of some lengths.

        Args:
            lengths: decoder tokens of each sequence.
            vision_tokens: of all images together; each image goes through the tower once.
        """
        tokens, pairs = sum(lengths), sum(length * length for length in lengths)
        decoder = tokens * (4 * self.decoder + 6 * self.adapter)
        attention = 3 * 2 * self.attention * pairs  # causal: half of all pairs, twice for q k and v
        return decoder + attention + 2 * self.vision * vision_tokens * self.patches_per_token


def peak_tflops(device: torch.device) -> float | None:
    """Return what a GPU can do at most in bfloat16, `None` where that isn't known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
