"""What the benchmarks run on: a checkpoint, the same weights in stock form, images and rows.

    seed ─► official layout ─────────────► ours:   model/
         └► Qwen2_5_VLForConditionalGeneration ─► rivals: stock/
         └► JPEG files, texts ─► rows.jsonl ─ dealt as train.py deals them ─► batches.json

The model has the proportions of the real one: a decoder of 4 layers of 256, a vision tower of 6
layers of 128 that costs about nine tenths of the decoder's time on an image, 2,048 tokens. Rivals
get the rows in the order in which `train.py` takes them, prompts already in place, so that all
train on the same batches. Kinds of rows:

    mixed    images of 112² to 448² pixels, texts of 8 to 198 tokens, both spread evenly on a
             logarithmic scale
    uniform  280 x 280 pixels and 64 tokens each: nothing to gain from not padding
    demo     the demo's rows, real pictures and captions
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from jina.data.batch_sampler import ContrastiveBatchSampler
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor
from jina.models.tiny_checkpoint import Shape, build_tiny_checkpoint

DEMO = Path(__file__).parents[1] / "data/demo"
KINDS = ("mixed", "uniform", "demo")
TRAINER_SEED = 42  # of project_config.yaml; it decides which rows form a batch
SHAPE = Shape(
    text={"hidden_size": 256, "intermediate_size": 1376, "num_hidden_layers": 4,
          "num_attention_heads": 8, "num_key_value_heads": 1, "vocab_size": 2048},
    vision={"depth": 6, "hidden_size": 128, "intermediate_size": 344, "num_heads": 4,
            "fullatt_block_indexes": [2, 5]},
    max_pixels=448 * 448,
)  # fmt: skip
IMAGE_PROMPT = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"
)
# sentence-transformers hands every input to a chat template; this one makes Jina's own prompts
CHAT_TEMPLATE = (
    "{%- for message in messages %}{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{% if part.type == 'image' %}{{ "
    + json.dumps(IMAGE_PROMPT)
    + " }}{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor -%}"
)


def build_workload(folder: Path, kind: str, *, rows: int, batch_size: int, seed: int) -> None:
    """Write everything above into a new folder; equal arguments give equal files.

    Args:
        folder: where to.
        kind: mixed, uniform or demo.
        rows: how many; of the demo as many as it has, at most.
        batch_size: pairs of a batch.
        seed: of weights, pictures and texts.
    """
    folder.mkdir(parents=True)
    captions = [json.loads(line)["positive"] for line in _demo_lines()]
    build_tiny_checkpoint(folder / "model", captions, seed=seed, shape=SHAPE)
    write_stock(folder / "model", folder / "stock")
    processor = JinaEmbeddingsV4Processor.from_pretrained(folder / "model")
    if kind == "demo":
        lines = [json.loads(line) for line in _demo_lines()[:rows]]
        for line in lines:
            line["query_image"] = str(DEMO / line["query_image"])
    else:
        random = np.random.default_rng(seed)
        words = one_token_words(processor, captions)
        prompt = len(processor.text_sequence("Passage:"))
        lines = list(_random_rows(folder / "images", kind, rows, words, prompt, random))
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_batches(folder, processor, batch_size)


def one_token_words(processor: JinaEmbeddingsV4Processor, captions: list[str]) -> list[str]:
    """Return words that are one token each behind a space, so that lengths can be chosen."""
    prompt = len(processor.text_sequence("a:"))
    words = sorted({word for text in captions for word in text.split() if word.isalpha()})
    return [w for w in words if len(processor.text_sequence(f"a: {w}")) == prompt + 1]


def write_stock(official: Path, stock: Path) -> None:
    """Write the base weights as a stock folder, with processor files that load in transformers."""
    ours = JinaEmbeddingsV4Model.from_pretrained(official, device="cpu")
    fields = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = Qwen2_5_VLConfig(
        text_config=ours.config.text_config.to_dict(),
        vision_config=ours.config.vision_config.to_dict(),
        tie_word_embeddings=True,
        **{name: getattr(ours.config, name) for name in fields},
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    weights = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in ours.model.state_dict().items()
        if ".lora_" not in name
    }
    model.model.load_state_dict(weights)
    model.save_pretrained(stock)
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(official / name, stock / name)
    images = json.loads((official / "preprocessor_config.json").read_text("utf-8"))
    images["processor_class"] = "Qwen2_5_VLProcessor"
    _write_json(stock / "preprocessor_config.json", images)
    videos = {**images, "video_processor_type": "Qwen2VLVideoProcessor"}
    del videos["image_processor_type"]
    _write_json(stock / "video_preprocessor_config.json", videos)
    (stock / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def write_batches(folder: Path, processor: JinaEmbeddingsV4Processor, batch_size: int) -> None:
    """Deal the rows as the first epoch of `train.py` does, and say how much padding they need."""
    dataset = MultimodalDataset(folder / "rows.jsonl", image_base_dir="/")
    sampler = ContrastiveBatchSampler.of_index(
        dataset.index, batch_size=batch_size, seed=TRAINER_SEED
    )
    order = [[dataset.sample(row) for row in batch] for batch in sampler]
    pairs = [
        [{"image": str(s.query.image), "text": f"Passage: {s.positives[0].text}"} for s in batch]
        for batch in order
    ]
    real = padded = 0
    for batch in pairs:
        for lengths in (
            [image_tokens(processor, pair["image"]) for pair in batch],
            [len(processor.text_sequence(pair["text"])) for pair in batch],
        ):
            real += sum(lengths)
            padded += len(lengths) * max(lengths)
    count = sum(map(len, pairs))
    _write_json(
        folder / "batches.json",
        {
            "batch_size": batch_size,
            "batches": len(pairs),
            "tokens_per_pair": round(real / count, 1),
            "padding_factor": round(padded / real, 2),
            "image_prompt": IMAGE_PROMPT,
            "pairs": [pair for batch in pairs for pair in batch],
        },
    )


def image_tokens(processor: JinaEmbeddingsV4Processor, file: str) -> int:
    """Return the tokens of an image with its prompt."""
    with Image.open(file) as image:
        vision = processor.image_settings.token_count(*image.size)
    return (
        vision
        + len(processor.text_sequence("Describe the image."))
        + (processor.image_prompt_tokens)
    )


def random_photo(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Return a picture with large and small detail, as hard to decode as a photo."""
    coarse = Image.fromarray(random.integers(0, 256, (7, 7, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = pixels + random.normal(0, 12, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _random_rows(
    folder: Path,
    kind: str,
    rows: int,
    words: list[str],
    prompt: int,
    random: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    folder.mkdir()
    for number in range(rows):
        width = height = 280
        tokens = 64
        if kind == "mixed":
            side = 112 * 4 ** random.uniform()
            stretch = 2 ** random.uniform(-0.5, 0.5)
            width, height = round(side * stretch), round(side / stretch)
            tokens = round(8 * math.exp(random.uniform(0, math.log(198 / 8))))
        file = folder / f"{number:05}.jpg"
        random_photo(width, height, random).save(file, quality=90)
        text = " ".join(random.choice(words, tokens - prompt))
        yield {"query_image": str(file.resolve()), "positive": text}


def _demo_lines() -> list[str]:
    return (DEMO / "train.jsonl").read_text(encoding="utf-8").splitlines()


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
