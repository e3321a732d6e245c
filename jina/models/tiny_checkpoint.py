"""A tiny checkpoint in the official layout, built here: what `make demo` and the tests run on.

The same files, tensor names and quirks as the real one at a few thousandths of its size, or at
another `Shape`, up to the true one. Its weights are random, so it shows that everything works, not
that anything is found.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from jina.models.adapters import AdapterSettings
from jina.models.checkpoint import ADAPTER_CONFIG, CheckpointError
from jina.models.configuration_jina_embeddings_v4 import TASK_NAMES
from jina.models.random_weights import write_random_weights

SPECIAL_TOKENS = [
    f"<|{name}|>"
    for name in (
        "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start",
        "box_end", "quad_start", "quad_end", "vision_start", "vision_end", "vision_pad",
        "image_pad", "video_pad",
    )
]  # fmt: skip
# Qwen2's split: contractions, words, single digits, punctuation, line breaks, spaces
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_PAIRS = 1522
ADAPTER = AdapterSettings(rank=32, alpha=32, dropout=0.1)
ROPE = {"mrope_section": [4, 6, 6], "rope_type": "default", "type": "default"}
TEXT_CONFIG: dict[str, Any] = {
    "model_type": "qwen2_5_vl_text",
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "rope_scaling": ROPE,
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "sliding_window": None,
    "max_window_layers": 70,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
VISION_CONFIG: dict[str, Any] = {
    "model_type": "qwen2_5_vl",
    "depth": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 2,
    "out_hidden_size": 128,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [1, 3],
    "tokens_per_second": 2,
    "in_channels": 3,
    "in_chans": 3,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}
PREPROCESSOR_CONFIG: dict[str, Any] = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "JinaEmbeddingsV4Processor",
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "patch_size": 14,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "min_pixels": 3136,
    "max_pixels": 50176,
    "size": {"shortest_edge": 3136, "longest_edge": 50176},
}


@dataclass(frozen=True)
class Shape:
    """What a checkpoint has otherwise than the tiny one.

    Attributes:
        text: fields of the decoder's configuration; a `vocab_size` is the least.
        vision: fields of the vision tower's configuration.
        vectors: fields of the configuration that say which vectors the model makes.
        max_pixels: larger images are shrunk to this area.
        byte_pairs: size of the vocabulary without special tokens, at most.
        adapter: rank, alpha and dropout of the adapters.
        dtype: type of all weights in the files.
        file_bytes: a file of base weights holds no more, but for a single larger tensor.
    """

    text: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=dict)
    vectors: Mapping[str, Any] = field(default_factory=dict)
    max_pixels: int = PREPROCESSOR_CONFIG["max_pixels"]
    byte_pairs: int = BYTE_PAIRS
    adapter: AdapterSettings = ADAPTER
    dtype: torch.dtype = torch.float32
    file_bytes: int = 2**30


TINY = Shape()
TRUE_SIZE = Shape(
    text={
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "rope_scaling": {**ROPE, "mrope_section": [16, 24, 24]},
    },
    vision={
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    vectors={
        "matryoshka_dims": [128, 256, 512, 1024, 2048],
        "multi_vector_projector_dim": 128,
    },
    max_pixels=602112,
    dtype=torch.bfloat16,
)


def build_tiny_checkpoint(
    folder: Path, corpus: Iterable[str], *, seed: int, shape: Shape = TINY
) -> None:
    """Write a tiny checkpoint with random weights; equal inputs give equal bytes.

    Args:
        folder: where to; it must not exist or be empty.
        corpus: texts that the tokenizer's byte pairs are counted on.
        seed: of the weights.
        shape: of the model.

    Raises:
        CheckpointError: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder}: not empty; got {folder}; name a new folder")
    (folder / "adapters").mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(corpus, shape.byte_pairs)
    config = _config(tokenizer, shape)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json, merges.txt
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer))
    _write_json(folder / "preprocessor_config.json", _preprocessor_config(shape))
    _write_json(folder / ADAPTER_CONFIG, _adapter_config(shape.adapter))
    write_random_weights(
        folder, config, shape.adapter, seed=seed, dtype=shape.dtype, file_bytes=shape.file_bytes
    )
    _write_json(folder / "config.json", config)


def train_tokenizer(corpus: Iterable[str], byte_pairs: int = BYTE_PAIRS) -> Tokenizer:
    """Train a byte-level BPE tokenizer in Qwen2's form, special tokens behind the byte pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=byte_pairs, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    return tokenizer


def _config(tokenizer: Tokenizer, shape: Shape) -> dict[str, Any]:
    """Compose `config.json` with the official file's quirks: no model_type, pinned attention."""
    least = max(tokenizer.get_vocab_size(), shape.text.get("vocab_size", 0))
    vocab_size = math.ceil(least / 64) * 64
    ids = {
        f"{field}_token_id": tokenizer.token_to_id(f"<|{token}|>")
        for field, token in (
            ("bos", "endoftext"), ("eos", "im_end"), ("image", "image_pad"),
            ("video", "video_pad"), ("vision_start", "vision_start"),
            ("vision_end", "vision_end"), ("vision", "vision_pad"),
        )
    }  # fmt: skip
    remote = {"AutoConfig": "configuration_jina_embeddings_v4.JinaEmbeddingsV4Config",
              "AutoModel": "modeling_jina_embeddings_v4.JinaEmbeddingsV4Model"}  # fmt: skip
    text = {**TEXT_CONFIG, **shape.text, "vocab_size": vocab_size}
    vision = {**VISION_CONFIG, **shape.vision, "out_hidden_size": text["hidden_size"]}
    text |= {name: ids[name] for name in ("bos_token_id", "eos_token_id")}
    for section in (text, vision):
        section["torch_dtype"] = str(shape.dtype).removeprefix("torch.")
    return {
        "architectures": ["JinaEmbeddingsV4Model"],
        "auto_map": remote,
        "_attn_implementation": "flash_attention_2",
        **{name: value for name, value in text.items() if name != "model_type"},
        **ids,
        "task_names": list(TASK_NAMES),
        "matryoshka_dims": [16, 32, 64, 128],
        "truncate_dim": None,
        "single_vector_pool_strategy": "mean",
        "multi_vector_projector_dim": 32,
        **shape.vectors,
        "text_config": text,
        "vision_config": vision,
        "transformers_version": "4.52.0",
    }


def _preprocessor_config(shape: Shape) -> dict[str, Any]:
    size = {**PREPROCESSOR_CONFIG["size"], "longest_edge": shape.max_pixels}
    return {**PREPROCESSOR_CONFIG, "max_pixels": shape.max_pixels, "size": size}


def _adapter_config(adapter: AdapterSettings) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": "",
        "bias": "none",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "init_lora_weights": "gaussian",
        "inference_mode": True,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
        "exclude_modules": ".*visual.*",
        "target_modules": (
            "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|"
            ".*(single_vector_projector|multi_vector_projector).*$)"
        ),
    }


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, "special": True, **flags}
            for token in SPECIAL_TOKENS
        },
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "model_max_length": 131072,
    }


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
