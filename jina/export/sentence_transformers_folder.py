"""A folder that sentence-transformers 6 loads: the merged model, pooled as Jina does.

    single vectors, stock modules             multi vectors, stock modules
      Router by what the input is               Transformer
        text          Transformer ─ mean        Dense, the merged projector
        image         Transformer ─ mask ─ mean MultiVectorMask
        image + text  Transformer ─ mask ─ mean Normalize
      Normalize

Jina averages an image's vision span only, the stock mean all tokens. The words around an image are
always the same, so a mask that leaves out just these tokens makes the two equal for an image. With
a text only the markers are left out: a line break, or `user` at a line's start, is left out of the
text, too. A list that mixes texts and images can't be routed; its images are averaged over
everything. `exact` writes Jina's own pooling instead, which is remote code.
"""

import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file

from jina.export.merging import MergedWeights
from jina.export.qwen_folder import PORTABLE, write_json, write_qwen_folder
from jina.export.source import Source
from jina.models.processing_jina_embeddings_v4 import (
    IMAGE_TEXT,
    JinaEmbeddingsV4Processor,
    prompt_for,
)

MODULES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Router": "sentence_transformers.base.modules.router.Router",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "MultiVectorMask": (
        "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
    ),
    "JinaPooling": "jina_pooling.JinaPooling",
}
MINIMUM_VERSION = "6.2.0"
FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}
TRANSFORMER_CONFIG = {
    "transformer_task": "feature-extraction",
    "modality_config": {
        **dict.fromkeys(("text", "image", "image+text"), FORWARD),
        "message": {**FORWARD, "format": "structured"},
    },
    "module_output_name": "token_embeddings",
    "unpad_inputs": False,  # Qwen2.5-VL computes its positions from padded input
}


def write_single_vector_folder(
    source: Source, weights: MergedWeights, folder: Path, *, task: str, exact: bool
) -> None:
    """Write a folder for `SentenceTransformer`.

    Args:
        source: the checkpoint.
        weights: the merged weights.
        folder: where to; it is made.
        task: the merged adapter, which decides the prompts.
        exact: pool by a module of our own, which users must trust.
    """
    size = source.config.text_config.hidden_size
    if exact:
        _write_transformer(source, weights, folder)
        _write_module(folder / "1_JinaPooling", _jina_pooling(source.processor, size))
        shutil.copyfile(PORTABLE / "jina_pooling.py", folder / "jina_pooling.py")
        modules = [("Transformer", ""), ("JinaPooling", "1_JinaPooling")]
    else:
        _write_router(source, weights, folder, size)
        modules = [("Router", "")]
    normalize = f"{len(modules)}_Normalize"
    _write_module(folder / normalize, _keys("sentence_embedding"))
    _write_index(folder, [*modules, ("Normalize", normalize)])
    _write_settings(folder, "SentenceTransformer", task, similarity="cosine")


def write_multi_vector_folder(
    source: Source, weights: MergedWeights, folder: Path, *, task: str
) -> None:
    """Write a folder for `MultiVectorEncoder`; every token counts, so stock modules are exact."""
    _write_transformer(source, weights, folder)
    projector = weights.projector()
    dim, size = projector["weight"].shape
    dense = {
        "in_features": size,
        "out_features": dim,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
        **_keys("token_embeddings"),
    }
    _write_module(folder / "1_Dense", dense)
    tensors = {f"linear.{part}": tensor for part, tensor in projector.items()}
    save_file(tensors, folder / "1_Dense/model.safetensors", {"format": "pt"})
    _write_module(folder / "2_MultiVectorMask", _mask([]))
    _write_module(folder / "3_Normalize", _keys("token_embeddings"))
    _write_index(
        folder,
        [
            ("Transformer", ""),
            ("Dense", "1_Dense"),
            ("MultiVectorMask", "2_MultiVectorMask"),
            ("Normalize", "3_Normalize"),
        ],
    )
    _write_settings(folder, "MultiVectorEncoder", task, similarity=None)


def _write_router(source: Source, weights: MergedWeights, folder: Path, size: int) -> None:
    """Write the router with its routes; they share one Transformer and one Pooling."""
    _write_transformer(source, weights, folder / "transformer")
    _write_module(
        folder / "pooling",
        {"embedding_dimension": size, "pooling_mode": "mean", "include_prompt": True},
    )
    for name, text in (("image_mask", None), ("image_text_mask", "a text")):
        _write_module(folder / name, _mask(_tokens_around(source.processor, text)))
    routes = {
        "text": ["transformer", "pooling"],
        "image": ["transformer", "image_mask", "pooling"],
        "image_text": ["transformer", "image_text_mask", "pooling"],
    }
    types = {"transformer": "Transformer", "pooling": "Pooling"}
    types |= dict.fromkeys(("image_mask", "image_text_mask"), "MultiVectorMask")
    write_json(
        folder / "router_config.json",
        {
            "types": {name: MODULES[type_] for name, type_ in types.items()},
            "structure": routes,
            "parameters": {
                "default_route": "text",
                "allow_empty_key": True,
                "route_mappings": {
                    "(None, 'text')": "text",
                    "(None, 'image')": "image",
                    "(None, ('image', 'text'))": "image_text",
                    "(None, 'message')": "text",
                },
            },
        },
    )


def _write_transformer(source: Source, weights: MergedWeights, folder: Path) -> None:
    write_qwen_folder(source, weights, folder)
    write_json(folder / "sentence_bert_config.json", TRANSFORMER_CONFIG)


def _tokens_around(processor: JinaEmbeddingsV4Processor, text: str | None) -> list[str]:
    """Return, once each, the tokens of an image prompt that aren't pooled."""
    sequence = processor.image_sequence(Image.new("RGB", (28, 28)), text=text)
    start, end = sequence.pooled
    ids = sequence.input_ids.tolist()
    around = dict.fromkeys(ids[:start] + ids[end:])
    return [processor.tokenizer.id_to_token(token) for token in around]


def _jina_pooling(processor: JinaEmbeddingsV4Processor, size: int) -> dict[str, Any]:
    token_id = processor.tokenizer.token_to_id
    text = processor.text_sequence(IMAGE_TEXT).input_ids.tolist()
    alone = processor.image_sequence(Image.new("RGB", (28, 28)))
    return {
        "embedding_dimension": size,
        "vision_start_id": token_id("<|vision_start|>"),
        "vision_end_id": token_id("<|vision_end|>"),
        "image_text_ids": text,
        "num_closing_tokens": len(alone) - alone.pooled[1] - len(text),
    }


def _mask(skipped: list[str]) -> dict[str, Any]:
    return {
        "skiplist_words": skipped,
        "skiplist_tasks": ["query", "document"],
        "keep_only_token_ids": None,
    }


def _keys(name: str) -> dict[str, str]:
    return {"module_input_name": name, "module_output_name": name}


def _write_module(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)


def _write_index(folder: Path, modules: list[tuple[str, str]]) -> None:
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": MODULES[name]}
        for index, (name, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)


def _write_settings(folder: Path, kind: str, task: str, *, similarity: str | None) -> None:
    """Write the prompts; `document` is sentence-transformers' own word for a passage."""
    query, passage = (f"{prompt_for(task, name)}: " for name in ("query", "passage"))
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "__version__": {"sentence_transformers": MINIMUM_VERSION},
            "model_type": kind,
            "prompts": {"query": query, "passage": passage, "document": passage},
            "default_prompt_name": "query",
            "similarity_fn_name": similarity,
        },
    )
