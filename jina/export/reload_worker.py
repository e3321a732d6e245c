"""The fresh process of a parity check: `python -m jina.export.reload_worker REQUEST OUT`.

Only the library the folder was made for is used, and none of this project's models, except for the
official layout, whose own code doesn't run on transformers 5.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from jina.export.parity_items import IMAGE_IN_MIXED_LIST, QUERY, ParityItem, Vectors


def answer(asked: Path, answered: Path) -> None:
    """Embed the items of a request and write their vectors."""
    request = json.loads(asked.read_text())
    items = [
        ParityItem(
            item["kind"], item["text"], item["image"] and Image.open(item["image"]).convert("RGB")
        )
        for item in request["items"]
    ]
    embed = EMBEDDERS[request["format"]]
    tensors: dict[str, Tensor] = {}
    for index, vectors in enumerate(embed(items, request)):
        for name, tensor in vectors._asdict().items():
            if tensor is not None:
                tensors[f"{name}.{index}"] = torch.as_tensor(tensor).float().cpu().contiguous()
    save_file(tensors, answered)


def _sentence_transformers(items: list[ParityItem], request: dict[str, Any]) -> list[Vectors]:
    from sentence_transformers import SentenceTransformer

    folder, exact = request["folder"], request["exact"]
    model = SentenceTransformer(folder, local_files_only=True, trust_remote_code=exact)
    found = _by_kind(items, model.encode_query, model.encode_document)
    return [Vectors(found[index], None) for index in range(len(items))]


def _multi_vector(items: list[ParityItem], request: dict[str, Any]) -> list[Vectors]:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(request["folder"], local_files_only=True)
    found = _by_kind(items, model.encode_query, model.encode_document)
    return [Vectors(None, found[index]) for index in range(len(items))]


def _by_kind(
    items: list[ParityItem],
    encode_query: Callable[[list[Any]], Any],
    encode_document: Callable[[list[Any]], Any],
) -> dict[int, Tensor]:
    """Encode the items of each kind in one call; mixed lists start with a text."""
    found: dict[int, Tensor] = {}
    for kind in dict.fromkeys(item.kind for item in items):
        chosen = [index for index, item in enumerate(items) if item.kind == kind]
        encode = encode_query if kind == QUERY else encode_document
        extra = ["a text"] if kind == IMAGE_IN_MIXED_LIST else []
        encoded = encode([*extra, *(_input(items[index]) for index in chosen)])
        found |= zip(chosen, list(encoded)[len(extra) :], strict=True)
    return found


def _input(item: ParityItem) -> Any:
    """Return an item by the names of its parts, so that no text is taken for an image path."""
    parts = {"image": item.image, "text": item.text}
    return {name: part for name, part in parts.items() if part is not None}


def _merged(items: list[ParityItem], request: dict[str, Any]) -> list[Vectors]:
    """Use the very file that the folder offers its users."""
    spec = importlib.util.spec_from_file_location("embed", Path(request["folder"], "embed.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.MergedModel(request["folder"])
    found = []
    for item in items:
        prompt = request["prompts"]["query" if item.kind == QUERY else "passage"]
        found.append(
            Vectors(
                model.single_vector(_input(item), prompt), model.multi_vectors(_input(item), prompt)
            )
        )
    return found


def _official(items: list[ParityItem], request: dict[str, Any]) -> list[Vectors]:
    from jina.export.reference import embed_items
    from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model

    model = JinaEmbeddingsV4Model.from_pretrained(request["folder"], dtype=request["dtype"])
    return embed_items(model, items, request["task"])


EMBEDDERS = {
    "sentence-transformers": _sentence_transformers,
    "multi-vector": _multi_vector,
    "merged": _merged,
    "official": _official,
}

if __name__ == "__main__":
    answer(Path(sys.argv[1]), Path(sys.argv[2]))
