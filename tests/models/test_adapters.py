"""Adapters: what their settings mean, how they change rank, how a new one starts."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jina.models.adapters import (
    UNSUPPORTED,
    AdapterSettings,
    adapter_parameters,
    fit_rank,
    lora_layers,
    replace_adapter,
    round_to,
    set_dropout,
)

OFFICIAL = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "bias": "none"}
NAME = "base_model.model.x.lora_{}.code.weight"


# ---- settings ------------------------------------------------------------------------------


def test_settings_are_read_from_the_official_fields():
    settings = AdapterSettings.from_dict(OFFICIAL | dict.fromkeys(UNSUPPORTED))
    assert settings == AdapterSettings(rank=4, alpha=8, dropout=0.1)
    assert settings.scaling == 2
    del (without := dict(OFFICIAL))["lora_dropout"]
    assert AdapterSettings.from_dict(without).dropout == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"peft_type": None}, "None"),
        ({"bias": "all"}, "bias=all"),
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ({"layers_to_transform": [0]}, "layers_to_transform"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"r": 0}, "r.*got 0"),
        ({"r": 2.5}, "r.*got 2.5"),
        ({"r": "4"}, "r.*got '4'"),
        ({"lora_alpha": "8"}, "alpha.*got '8'"),
        ({"lora_dropout": 1.5}, "dropout.*got 1.5"),
        ({"lora_dropout": "some"}, "dropout.*got 'some'"),
    ],
    ids=str,
)
def test_other_forms_of_lora_are_refused_by_name(changes, named):
    with pytest.raises(ValueError, match=named):
        AdapterSettings.from_dict(OFFICIAL | changes)


# ---- rank ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [4, 5, 16])
@pytest.mark.parametrize("factor", [1.0, 0.5, 3.0])
def test_fitting_the_rank_keeps_the_product(rank, factor):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((4, 7), (6, 4)))
    fitted = fit_rank({NAME.format("A"): a, NAME.format("B"): b}, rank, factor)
    wide_a, wide_b = fitted[NAME.format("A")], fitted[NAME.format("B")]
    assert (wide_a.shape, wide_b.shape) == ((rank, 7), (6, rank))
    assert torch.equal(wide_a[:4], a)
    assert not wide_a[4:].any()
    assert not wide_b[:, 4:].any()
    assert_close(wide_b @ wide_a, factor * (b @ a), rtol=0, atol=1e-12)
    if factor != 1:
        assert (wide_b @ wide_a - b @ a).abs().max() > 0.1


def test_rounding_keeps_what_the_type_can_hold():
    parameter = nn.Parameter(torch.tensor([1.0, 1 + 2**-7, 1 + 2**-12]))
    round_to({NAME.format("A"): parameter}, torch.bfloat16, factor=3.0)
    assert parameter.tolist() == [1, 1 + 2**-7, 1]
    assert parameter.dtype == torch.float32


def test_a_rescaled_b_is_rounded_as_the_file_will_hold_it():
    drawn = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    parameter = nn.Parameter(drawn.clone())
    round_to({NAME.format("B"): parameter}, torch.bfloat16, factor=3.0)
    in_file = (drawn * 3).bfloat16()
    assert torch.equal((parameter * 3).bfloat16(), in_file)
    assert_close(parameter.data, in_file.float() / 3, rtol=1e-6, atol=0)
    assert not torch.equal((drawn.bfloat16() * 3).bfloat16(), in_file)


# ---- a new adapter -------------------------------------------------------------------------


@pytest.fixture
def replaced(fresh_model):
    """Return a function that puts a new adapter in the place of the retrieval one."""

    def build(seed, rank=4):
        model = fresh_model()
        torch.manual_seed(seed)
        replace_adapter(model, "retrieval", AdapterSettings(rank, 4.0, 0.1))
        return model

    return build


def test_a_new_adapter_is_settled_by_the_seed(replaced, is_equal):
    first, again, other = (dict(adapter_parameters(replaced(s), "retrieval")) for s in (1, 1, 2))
    assert is_equal(first, again)
    for name, parameter in first.items():
        assert torch.equal(parameter, other[name]) == (".lora_B." in name)
        assert parameter.dtype == torch.float32


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_a_new_adapter_changes_nothing_yet(replaced, fresh_model, sequences, embed, rank):
    model, bare = replaced(0, rank).eval(), fresh_model()
    for name, parameter in adapter_parameters(bare, "retrieval").items():
        if ".lora_B." in name:
            parameter.data.zero_()
    for name, parameter in adapter_parameters(model, "retrieval").items():
        assert parameter.any() == (".lora_A." in name)
        assert rank in parameter.shape
    found, expected = embed(model, sequences.mixed), embed(bare, sequences.mixed)
    assert_close(found, expected, rtol=0, atol=1e-6)
    others = embed(model, sequences.mixed, "code"), embed(fresh_model(), sequences.mixed, "code")
    assert_close(*others, rtol=0, atol=0)
    assert (others[0][0] - found[0]).abs().max() > 1e-3


def test_a_new_adapter_is_drawn_as_the_official_one(replaced):
    factors = [
        p for n, p in adapter_parameters(replaced(0, 8), "retrieval").items() if "lora_A" in n
    ]
    drawn = torch.cat([factor.flatten() for factor in factors])
    assert drawn.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert abs(drawn.mean().item()) < 0.01


def test_the_model_says_what_is_trained(fresh_model):
    model = fresh_model()
    model.train_adapters("code", fresh=True, rank=8)
    assert model.adapter_settings["code"] == AdapterSettings(8, 8.0, 0.1)  # the scaling is kept
    model.train_adapters("code", fresh=True, rank=2, alpha=6.0, dropout=0.0)
    assert model.adapter_settings["code"] == AdapterSettings(2, 6.0, 0.0)
    assert model.adapter_settings["retrieval"] == AdapterSettings(4, 4, 0.1)
    assert model.trained_tasks == ("code",)
    assert all(2 in parameter.shape for parameter in model.trained_parameters().values())


@pytest.mark.parametrize("options", [{"rank": 8}, {"alpha": 8.0}])
def test_rank_and_alpha_are_for_fresh_adapters(fresh_model, options):
    with pytest.raises(ValueError, match="fresh"):
        fresh_model().train_adapters("retrieval", **options)


@pytest.mark.parametrize("options", [{"rank": -1}, {"rank": 0}, {"dropout": 1.5}], ids=str)
def test_impossible_adapters_are_refused_before_anything_is_lost(fresh_model, jina_model, options):
    model = fresh_model()
    with pytest.raises(ValueError, match=next(iter(options))):
        model.train_adapters("retrieval", fresh=True, **options)
    expected = jina_model.encode_text("a cat", "retrieval")
    assert torch.equal(model.encode_text("a cat", "retrieval"), expected)


def test_an_unknown_task_cannot_be_trained(fresh_model):
    with pytest.raises(ValueError, match="task: .*sts"):
        fresh_model().train_adapters("sts")


# ---- dropout -------------------------------------------------------------------------------


def test_dropout_is_set_for_one_task(fresh_model):
    model = fresh_model()
    set_dropout(model, "code", 0.4)
    set_dropout(model, "retrieval", 0.0)
    layers = [model.get_submodule(name) for name in lora_layers(model)]
    assert len(layers) == 22
    for layer in layers:
        assert layer.lora_dropout["code"].p == 0.4
        assert layer.lora_dropout["text-matching"].p == 0.1
        assert isinstance(layer.lora_dropout["retrieval"], nn.Identity)


@pytest.mark.parametrize("fresh", [False, True])
def test_dropout_works_in_training_and_rests_in_evaluation(fresh_model, sequences, embed, fresh):
    model = fresh_model()
    model.train_adapters("retrieval", dropout=0.5)
    if fresh:
        model.train_adapters("retrieval", fresh=True, dropout=0.5)
        for name, parameter in model.trained_parameters().items():
            if ".lora_B." in name:
                nn.init.normal_(parameter, std=0.1)

    def runs():
        return [embed(model, sequences.text)[0] for _ in "ab"]

    assert not model.training
    assert torch.equal(*runs())
    model.train()
    assert not torch.equal(*runs())
    model.eval()
    assert torch.equal(*runs())
