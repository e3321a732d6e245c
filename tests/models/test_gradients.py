"""Gradients: those of the stock, padded model; none in the vision tower; one adapter at a time."""

import json

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from jina.models.adapters import lora_layers
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor
from tests.checkpointing import enable_checkpointing

MODALITIES = ["text", "image", "mixed"]
CHECKPOINTING = [None, {"use_reentrant": False}, {"use_reentrant": True}]


class StockModel(nn.Module):
    """The fixture's weights in transformers' own padded model, with one PEFT adapter.

    It shares no code with the project: names, positions, masks and pooling are the library's or
    spelled out here.
    """

    def __init__(self, folder, task):
        super().__init__()
        config = Qwen2_5_VLConfig.from_pretrained(folder)
        config._attn_implementation = "sdpa"  # the file pins flash attention
        settings = json.loads((folder / "adapters/adapter_config.json").read_text())
        self.image_token_id = config.image_token_id
        self.processor = JinaEmbeddingsV4Processor.from_pretrained(folder)
        self.model = Qwen2_5_VLModel(config)
        self.multi_vector_projector = nn.Linear(64, 16)
        lora = LoraConfig(
            r=settings["r"],
            lora_alpha=settings["lora_alpha"],
            target_modules=r"model\.language_model.*_proj|multi_vector_projector",
        )
        inject_adapter_in_model(lora, self, task)
        adapter = load_file(folder / "adapters/adapter_model.safetensors")
        tensors = {k.removeprefix("base_model.model."): v for k, v in adapter.items() if task in k}
        targets = {name.rsplit(".lora_", 1)[0] for name in tensors}
        for name, tensor in load_file(folder / "model.safetensors").items():
            if name.startswith("visual."):
                name = f"model.{name}"
            elif name.startswith("model."):
                name = name.replace("model.", "model.language_model.", 1)
            layer, kind = name.rsplit(".", 1)
            tensors[f"{layer}.base_layer.{kind}" if layer in targets else name] = tensor
        self.load_state_dict(tensors)
        self.double()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(".lora_" in name)

    def forward(self, sequences, with_image_positions=True):
        """Return padded single vectors and token vectors, and the mask of the latter."""
        ids = pad_sequence([s.input_ids for s in sequences], batch_first=True)
        mask = pad_sequence([torch.ones(len(s)) for s in sequences], batch_first=True).long()
        images = [s for s in sequences if s.patches is not None]
        vision = {}
        if images:
            pixels = [self.processor.image_settings.pixel_values(s.patches) for s in images]
            vision = {
                "pixel_values": torch.cat(pixels).double(),
                "image_grid_thw": torch.tensor([s.grid_thw for s in images]),
            }
            if with_image_positions:
                vision["mm_token_type_ids"] = (ids == self.image_token_id).int()
        states = self.model(
            input_ids=ids, attention_mask=mask, use_cache=False, **vision
        ).last_hidden_state
        pooled = torch.zeros_like(mask)
        for row, sequence in enumerate(sequences):
            pooled[row, slice(*sequence.pooled)] = 1
        means = (states * pooled.unsqueeze(-1)).sum(1) / pooled.sum(1, keepdim=True)
        tokens = normalize(self.multi_vector_projector(states), dim=-1)
        return normalize(means, dim=-1), tokens[mask.bool()]


def loss_of(single, multi):
    """A smooth function of every number that the model puts out."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (single, multi)]
    return (single * weights[0]).sum() + (multi * weights[1]).sum() / 10


@pytest.fixture(scope="module")
def stock_gradients(fixture_folder, sequences):
    """Return a function that computes the stock model's gradients under official names."""
    model = StockModel(fixture_folder, "retrieval")
    known = {}

    def gradients(modality, **options):
        key = (modality, *options)
        if key not in known:
            model.zero_grad()
            loss_of(*model(getattr(sequences, modality), **options)).backward()
            known[key] = {
                f"base_model.model.{name}": parameter.grad.clone()
                for name, parameter in model.named_parameters()
                if parameter.grad is not None
            }
        return known[key]

    return gradients


@pytest.fixture
def training_model(fresh_model):
    """Return a function that builds a model in training, without dropout so that runs compare."""

    def build(*, dtype="float64", checkpointing=None, folder=None, dropout=0.0):
        model = fresh_model(**({"folder": folder} if folder else {}), dtype=dtype)
        model.train_adapters("retrieval", dropout=dropout)
        if checkpointing:
            enable_checkpointing(model, checkpointing)
            model.enable_input_require_grads()
        return model.train()

    return build


def gradients_of(model):
    return {name: p.grad.clone() for name, p in model.trained_parameters().items()}


@pytest.mark.parametrize("checkpointing", CHECKPOINTING, ids=str)
@pytest.mark.parametrize("modality", MODALITIES)
def test_packed_gradients_are_those_of_the_stock_padded_model(
    training_model, stock_gradients, sequences, embed, relative_error, modality, checkpointing
):
    model = training_model(checkpointing=checkpointing)
    loss_of(*embed(model, getattr(sequences, modality))).backward()
    assert relative_error(gradients_of(model), stock_gradients(modality)) <= 1e-6


def test_without_image_positions_the_stock_gradients_are_others(stock_gradients, relative_error):
    """The control of the test above, and the reason that positions are built here."""
    flat = stock_gradients("image", with_image_positions=False)
    assert relative_error(flat, stock_gradients("image")) > 1e-2


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_replays_dropout(training_model, sequences, embed, relative_error, dropout):
    found = []
    for checkpointing, seed in ((None, 1), ({"use_reentrant": False}, 1), (None, 2)):
        model = training_model(checkpointing=checkpointing, dropout=dropout)
        torch.manual_seed(seed)
        loss_of(*embed(model, sequences.mixed)).backward()
        found.append(gradients_of(model))
    assert relative_error(found[1], found[0]) <= 1e-12
    assert (relative_error(found[2], found[0]) > 1e-2) == (dropout > 0)


# ---- the vision tower ----------------------------------------------------------------------


@pytest.fixture
def vision_outputs():
    """Return a function that records what the layers of a model's vision tower put out."""

    def record(model):
        outputs = []
        for module in model.model.visual.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                module.register_forward_hook(lambda _, __, output: outputs.append(output))
        return outputs

    return record


@pytest.mark.parametrize("requires_input_grads", [False, True])
@pytest.mark.parametrize("checkpointing", CHECKPOINTING, ids=str)
def test_the_vision_tower_builds_no_graph_and_gets_no_gradient(
    training_model, sequences, embed, vision_outputs, checkpointing, requires_input_grads
):
    model = training_model(checkpointing=checkpointing, dtype="float32")
    if requires_input_grads:
        model.enable_input_require_grads()
    outputs = vision_outputs(model)
    loss_of(*embed(model, sequences.mixed)).backward()
    assert len(outputs) > 20
    assert all(output.grad_fn is None for output in outputs)
    for name, parameter in model.model.visual.named_parameters():
        assert parameter.grad is None, name
        assert not parameter.requires_grad, name
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"exclude_modules": None},
        {"exclude_modules": None, "target_modules": ".*visual.*(qkv|proj)"},
        {"exclude_modules": "language_model", "target_modules": ["qkv", "proj", "gate_proj"]},
    ],
)
def test_no_configuration_puts_an_adapter_into_the_vision_tower(
    training_model, folder_copy, edit, changes
):
    edit.fields(folder_copy / "adapters/adapter_config.json", **changes)
    layers = lora_layers(training_model(folder=folder_copy))
    assert len(layers) == 3 * 7 + 1
    assert not any("visual" in layer for layer in layers)


# ---- one adapter at a time -----------------------------------------------------------------


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("task", ["retrieval", "text-matching", "code"])
def test_only_the_trained_adapter_takes_gradients(fresh_model, sequences, embed, task):
    model = fresh_model()
    assert not trainable(model)
    model.train_adapters(task, dropout=0.0)
    expected = {name.removeprefix("base_model.model.") for name in model.trained_parameters()}
    assert trainable(model) == expected
    assert len(expected) == 44
    assert all(f".{task}." in name for name in expected)
    loss_of(*embed(model.train(), sequences.mixed, task)).backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == expected


@pytest.mark.parametrize("fresh", [False, True])
def test_a_task_just_encoded_under_can_be_trained(fresh_model, sequences, embed, fresh):
    model = fresh_model()
    model.encode_text("a cat", "retrieval")
    model.train_adapters("retrieval", fresh=fresh, dropout=0.0)
    assert len(trainable(model)) == 44
    loss_of(*embed(model, sequences.text)).backward()
    assert all(p.grad is not None for p in model.trained_parameters().values())


def test_a_second_adapter_is_not_trained_in_the_same_model(fresh_model):
    """A save holds one trained adapter; the first one's training would be lost in silence."""
    model = fresh_model()
    model.train_adapters("retrieval")
    with pytest.raises(ValueError, match="trains retrieval already; got code"):
        model.train_adapters("code")
    assert all(".retrieval." in name for name in trainable(model))
    assert len(trainable(model)) == 44


def test_an_untrained_task_has_no_graph_in_a_model_in_training(training_model, sequences, embed):
    model = training_model()
    assert embed(model, sequences.text, "retrieval")[0].requires_grad
    assert not embed(model, sequences.text, "code")[0].requires_grad


def test_encoding_under_another_task_leaves_a_training_step_as_it_was(
    training_model, golden, sequences, embed, is_equal
):
    found = []
    for encodes in (False, True):
        model = training_model(dtype="float32")
        optimizer = torch.optim.AdamW(model.trained_parameters().values(), lr=1e-2)
        for _ in range(2):  # the second step sees the first one's optimizer state
            for items in (sequences.text, sequences.image):  # two gradients add up
                loss_of(*embed(model, items)).backward()
                if encodes:
                    model.encode_text(golden.texts, "code")
                    model.encode_image(golden.images[:1], "text-matching")
            optimizer.step()
            optimizer.zero_grad()
        assert model.training
        found.append({name: p.detach().clone() for name, p in model.trained_parameters().items()})
    assert is_equal(*found)
    start = {
        name: p.detach() for name, p in training_model(dtype="float32").trained_parameters().items()
    }
    assert not any(torch.equal(found[0][name], tensor) for name, tensor in start.items())


def test_encoding_under_another_task_leaves_the_trained_one_trainable(training_model):
    """A trainer built after that would otherwise find nothing to train, and say nothing."""
    model = training_model()
    before = trainable(model)
    model.encode_text("a cat", "code")
    assert trainable(model) == before
