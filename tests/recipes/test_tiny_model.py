"""The tiny Jina while it is pretrained is the product's model, only quicker."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.processing_jina_embeddings_v4 import image_patches
from recipes.tiny_model import (
    base_parameters,
    cut,
    embed,
    image_batch,
    text_batch,
    train_all,
    write_checkpoint,
)

TEXTS = ["red", "a rather longer text of several words", "green and blue"]


@pytest.fixture(scope="module")
def learner(start_folder):
    return train_all(start_folder)


@pytest.fixture(scope="module")
def product(start_folder):
    return JinaEmbeddingsV4Model.from_pretrained(start_folder)


@pytest.fixture(scope="module")
def views():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, 3, 112, 84), generator=generator).to(torch.uint8)


def as_images(views):
    return [Image.fromarray(view.permute(1, 2, 0).numpy()) for view in views]


def test_texts_of_different_lengths_are_embedded_as_the_product_does(learner, product):
    found = embed(learner, text_batch(learner, TEXTS, "Query"), multi=True)
    expected = product.encode_text(TEXTS, task="retrieval")
    torch.testing.assert_close(found.single, torch.stack(expected), atol=1e-5, rtol=0)
    expected = product.encode_text(TEXTS, task="retrieval", return_multivector=True)
    torch.testing.assert_close(found.multi.vectors, torch.cat(expected), atol=1e-5, rtol=0)


def test_views_are_embedded_as_the_product_does(learner, product, views):
    batch, features = image_batch(learner, views)
    expected = product.encode_image(as_images(views), task="retrieval")
    found = embed(learner, batch, multi=False).single
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)
    assert features.shape == (3, 64)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_views_are_cut_as_the_product_does(product, views):
    settings = product.processor.image_settings
    patches, grid = cut(views, settings)
    each = [image_patches(image, settings) for image in as_images(views)]
    assert torch.equal(patches, torch.cat([part for part, _ in each]))
    assert grid == each[0][1][1:]


def test_all_weights_but_the_adapters_learn(start_folder, views):
    model = train_all(start_folder)
    images = embed(model, image_batch(model, views)[0], multi=True)
    texts = embed(model, text_batch(model, TEXTS, "Query"), multi=True)
    loss = (images.single * texts.single).sum() + images.multi.vectors.sum()
    loss.backward()
    idle = [name for name, weight in base_parameters(model).items() if weight.grad is None]
    assert not idle
    assert not [n for n, p in model.named_parameters() if ".lora_" in n and p.requires_grad]


def test_the_written_folder_holds_the_weights_and_adapters_that_change_nothing(
    start_folder, tmp_path
):
    weights = {
        name: torch.full_like(tensor, 0.1)
        for name, tensor in base_parameters(train_all(start_folder)).items()
    }
    write_checkpoint(start_folder, weights, tmp_path / "new")
    model = JinaEmbeddingsV4Model.from_pretrained(tmp_path / "new")
    assert model.dtype == torch.bfloat16
    stored = load_file(tmp_path / "new/model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name].bfloat16()) for name in weights)
    vectors = [
        model.encode_text("red", task=task, return_numpy=True) for task in ("retrieval", "code")
    ]
    np.testing.assert_array_equal(*vectors)
