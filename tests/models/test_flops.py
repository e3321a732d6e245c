"""The arithmetic of a step: the official model's by hand, and what the counter of torch finds."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jina.models import flops
from jina.models.flops import StepFlops, peak_tflops
from jina.models.packing import pack

OFFICIAL = SimpleNamespace(
    text_config=SimpleNamespace(
        hidden_size=2048, intermediate_size=11008, num_hidden_layers=36,
        num_attention_heads=16, num_key_value_heads=2,
    ),
    vision_config=SimpleNamespace(
        hidden_size=1280, intermediate_size=3420, depth=32,
        spatial_merge_size=2, temporal_patch_size=2, patch_size=14,
    ),
)  # fmt: skip


def test_the_official_model_has_the_weights_the_performance_study_counts():
    counted = StepFlops.of(OFFICIAL, 32)
    assert counted.decoder / 1e9 == pytest.approx(2.775, abs=0.001)
    assert counted.adapter == 59_867_136  # of an adapter's 59,936,768 all but the projector's
    assert counted.step([268, 64], 256) / 1e12 == pytest.approx(5.19, rel=0.02)


def test_twice_the_tokens_cost_more_than_twice():
    counted = StepFlops.of(OFFICIAL, 32)
    assert counted.step([200], 0) > 2 * counted.step([100], 0)
    assert counted.step([100, 100], 0) == 2 * counted.step([100], 0)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_the_weights_of_a_forward_pass_are_those_that_torch_counts(
    fresh_model, sequences, modality
):
    """Within what attention adds, which is little for short sequences."""
    model, batch = fresh_model(), pack(getattr(sequences, modality))
    in_place = {
        torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]
    }  # unknown to it
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    with counter, torch.no_grad():
        model.hidden_states(batch, "retrieval")
    counted = StepFlops.of(model.config, model.adapter_settings["retrieval"].rank)
    patches = sum(batch.vision_tokens) * counted.patches_per_token
    expected = 2 * (counted.decoder + counted.adapter) * sum(batch.lengths)
    expected += 2 * counted.vision * patches
    assert expected <= counter.get_total_flops() <= 1.12 * expected


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA L40S", 362), ("Z9", None)],
)
def test_the_peak_goes_by_the_name_of_the_gpu(monkeypatch, name, peak):
    monkeypatch.setattr(flops.torch.cuda, "get_device_name", lambda _: name)
    assert peak_tflops(torch.device("cuda")) == peak
    assert peak_tflops(torch.device("cpu")) is None
