"""The merged model as a plain Qwen2.5-VL folder that transformers and vLLM load.

config.json               Qwen2.5-VL's, in a form that old and new readers know
model*.safetensors        merged weights, in shards of at most 5 GB
tokenizer.json, …         as they are; tokenizer_config.json without Jina's remote code
preprocessor_config.json  image settings under stock class names
chat_template.jinja       renders the raw prompts, so that chat-shaped input gives the same ids
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from jina.export.merging import MergedWeights
from jina.export.source import Source
from jina.models.checkpoint import INDEX, official_name
from jina.models.processing_jina_embeddings_v4 import MAX_TEXT_TOKENS

TEMPLATES = Path(__file__).parent / "templates"
PORTABLE = Path(__file__).parent / "portable"
SHARD_SIZE = "5GB"
JINA_FIELDS = {
    "auto_map", "_attn_implementation", "matryoshka_dims", "multi_vector_projector_dim",
    "pretrained_peft_model_name_or_path", "single_vector_pool_strategy", "task_names",
    "truncate_dim", "verbosity",
}  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json",
                   "special_tokens_map.json")  # fmt: skip


def write_qwen_folder(
    source: Source, weights: MergedWeights, folder: Path, *, new_names: bool = False
) -> None:
    """Write a Qwen2.5-VL model.

    Args:
        source: the checkpoint.
        weights: the merged weights.
        folder: where to; it is made.
        new_names: name tensors as transformers 5 does in memory, `model.language_model.layers…`
            and `model.visual…`, in place of the `model.layers…` and `visual…` of Qwen's own files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    origin = source.checkpoint.path
    write_json(folder / "config.json", _qwen_config(read_json(origin / "config.json"), weights))
    for name in TOKENIZER_FILES:
        if (origin / name).is_file():
            shutil.copyfile(origin / name, folder / name)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(source))
    images = read_json(origin / "preprocessor_config.json") | {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }
    images.pop("auto_map", None)
    write_json(folder / "preprocessor_config.json", images)
    shutil.copyfile(TEMPLATES / "chat_template.jinja", folder / "chat_template.jinja")
    _write_weights(weights, folder, str if new_names else official_name)


def _qwen_config(official: dict[str, Any], weights: MergedWeights) -> dict[str, Any]:
    """Turn the official configuration into Qwen2.5-VL's.

    Rotary settings stay where transformers 4 looks for them, which transformers 5 reads too.
    """
    kept = {name: value for name, value in official.items() if name not in JINA_FIELDS}
    dtype = str(weights.dtype).removeprefix("torch.")
    for section in ("text_config", "vision_config"):
        if section in kept:
            kept[section] = {**kept[section], "torch_dtype": dtype}
    return {
        **kept,
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "torch_dtype": dtype,
    }


def _tokenizer_config(source: Source) -> dict[str, Any]:
    """Take over the tokenizer's settings, with the limit that holds for texts here."""
    file = source.checkpoint.path / "tokenizer_config.json"
    values = read_json(file) if file.is_file() else {"eos_token": "<|im_end|>"}
    for name in ("auto_map", "chat_template"):
        values.pop(name, None)
    limit = min(MAX_TEXT_TOKENS, source.config.text_config.max_position_embeddings)
    return {
        **values,
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "Qwen2_5_VLProcessor",
        "pad_token": "<|endoftext|>",
        "model_max_length": limit,
    }


def _write_weights(weights: MergedWeights, folder: Path, rename: Callable[[str], str]) -> None:
    """Write shard after shard, merging as it goes."""
    plan = split_torch_state_dict_into_shards(weights.shapes(), max_shard_size=SHARD_SIZE)
    for file, names in plan.filename_to_tensors.items():
        tensors = {rename(name): weights[name] for name in names}
        save_file(tensors, folder / file, {"format": "pt"})
    if plan.is_sharded:
        index = {rename(name): file for name, file in plan.tensor_to_filename.items()}
        write_json(folder / INDEX, {"metadata": plan.metadata, "weight_map": index})


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, values: Any) -> None:
    """Write JSON, indented."""
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
