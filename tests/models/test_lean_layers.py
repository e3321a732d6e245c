"""Layers computed with less: results and gradients of the stock layers, and fewer tensors kept."""

import pytest
import torch
from peft.tuners.lora import Linear as StockLora
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import silu
from torch.testing import assert_close
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed, Qwen2MLP

from jina.models.adapters import AdapterSettings, activate_adapter, add_adapter, set_dropout
from jina.models.lean_layers import GatedMLP, LeanLora, PatchEmbedding

ADAPTER = AdapterSettings(rank=3, alpha=6.0, dropout=0.0)
EXACT = {"rtol": 1e-12, "atol": 1e-12}
CONFIG = type("Config", (), {"hidden_size": 6, "intermediate_size": 10, "hidden_act": "silu"})


class Decoder(nn.Module):
    """An MLP under the names of the model, and a projector with a bias."""

    def __init__(self, mlp):
        super().__init__()
        self.model = nn.Module()
        self.model.language_model = nn.Module()
        self.model.language_model.layers = nn.ModuleList([nn.Module()])
        self.model.language_model.layers[0].mlp = mlp
        self.multi_vector_projector = nn.Linear(6, 4)

    @property
    def mlp(self):
        return self.model.language_model.layers[0].mlp


@pytest.fixture
def layers():
    """An MLP and a projector with two adapters of random factors, the second one at work."""
    torch.manual_seed(0)
    decoder = Decoder(GatedMLP(CONFIG))
    for task in ("code", "retrieval"):
        add_adapter(decoder, task, ADAPTER, empty=False)
    decoder.double()
    for name, parameter in decoder.named_parameters():
        nn.init.normal_(parameter)
        parameter.requires_grad_(".lora_" in name)
    activate_adapter(decoder, "retrieval")
    for name, parameter in decoder.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    return decoder


@pytest.fixture
def inputs():
    return torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)


def stock_mlp(mlp, x):
    """Transformers' own forward pass over PEFT's own layers."""
    gate, up = (StockLora.forward(layer, x) for layer in (mlp.gate_proj, mlp.up_proj))
    return StockLora.forward(mlp.down_proj, silu(gate) * up)


def with_gradients(function, module, x):
    """Return what a function of `x` gives, and the gradients of `x` and of what is trained."""
    trained = [p for n, p in module.named_parameters() if ".retrieval." in n]
    output = function(x)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    return [output, *torch.autograd.grad((output * weights).sum(), [x, *trained])]


def kept_for_backward(function, x):
    """Return the tensors of different memory that a function of `x` keeps."""
    kept = {}
    with saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        function(x)
    return list(kept.values())


# ---- the linear layer ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 6), (2, 5, 6)], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_layer_and_its_gradients_are_peft_s(layers, shape, has_bias):
    layer = layers.multi_vector_projector if has_bias else layers.mlp.gate_proj
    assert type(layer) is LeanLora
    assert layer.scaling["retrieval"] == 2
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    found = with_gradients(layer, layer, x)
    assert_close(found, with_gradients(lambda x: StockLora.forward(layer, x), layer, x), **EXACT)
    layer.scaling["retrieval"] = 1
    other = with_gradients(lambda x: StockLora.forward(layer, x), layer, x)
    assert min((a - b).abs().max() for a, b in zip(found, other, strict=True)) > 1e-2


def test_each_adapter_is_its_own(layers, inputs):
    layer, found = layers.multi_vector_projector, []
    for task in ("code", "retrieval"):
        activate_adapter(layers, task)
        found.append(layer(inputs))
        assert_close(found[-1], StockLora.forward(layer, inputs), **EXACT)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_nothing_is_kept_in_a_wider_type_than_is_computed_in(layers, inputs):
    layer = layers.mlp.up_proj
    layer.base_layer.bfloat16()
    for factors in (layer.lora_A, layer.lora_B):
        factors.float()
    x = inputs.detach().bfloat16().requires_grad_()
    output, *gradients = with_gradients(layer, layer, x)
    assert output.dtype == torch.bfloat16
    assert [g.dtype for g in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    kept = kept_for_backward(layer, x)
    assert {tensor.dtype for tensor in kept} == {torch.bfloat16}
    of_peft = kept_for_backward(lambda x: StockLora.forward(layer, x), x)
    assert torch.float32 in {tensor.dtype for tensor in of_peft}


# ---- the MLP -------------------------------------------------------------------------------


def test_the_mlp_and_its_gradients_are_the_stock_one_s(layers, inputs):
    mlp = layers.mlp
    found = with_gradients(mlp, mlp, inputs)
    assert len(found) == 2 + 6
    assert_close(found, with_gradients(lambda x: stock_mlp(mlp, x), mlp, inputs), **EXACT)
    mlp.gate_proj.lora_A["retrieval"].weight.data *= 2
    other = with_gradients(lambda x: stock_mlp(mlp, x), mlp, inputs)
    assert min((a - b).abs().max() for a, b in zip(found, other, strict=True)) > 1e-2


def test_the_mlp_drops_inputs_of_the_update_only(layers, inputs):
    mlp, rate = layers.mlp.train(), 0.25
    set_dropout(layers, "retrieval", rate)
    for layer in (mlp.gate_proj, mlp.up_proj):
        layer.lora_dropout["retrieval"] = nn.Identity()  # so that only one mask is drawn
    down = mlp.down_proj

    def expected(x):
        torch.manual_seed(1)
        gate, up = mlp.gate_proj(x).flatten(0, 1), mlp.up_proj(x).flatten(0, 1)
        mask = torch.empty(10, 10, dtype=torch.bool).bernoulli_(1 - rate)
        product = silu(gate) * up
        inner = (product * mask / (1 - rate)) @ down.lora_A["retrieval"].weight.T
        update = 2 * inner @ down.lora_B["retrieval"].weight.T
        return (down.base_layer(product) + update).view(2, 5, 6)

    def found(x, seed=1):
        torch.manual_seed(seed)
        return mlp(x)

    assert_close(*(with_gradients(each, mlp, inputs) for each in (found, expected)), **EXACT)
    assert (found(inputs, seed=2) - found(inputs)).abs().max() > 1e-2
    mlp.eval()
    assert_close(mlp(inputs), stock_mlp(mlp, inputs), **EXACT)


@pytest.mark.parametrize(("dropout", "of_stock"), [(0.0, 4), (0.5, 5)])
def test_the_mlp_keeps_two_wide_tensors(layers, inputs, dropout, of_stock):
    set_dropout(layers, "retrieval", dropout)

    def wide(function):
        kept = kept_for_backward(function, inputs)
        return sum(t.numel() == 2 * 5 * 10 and t.dtype == torch.float64 for t in kept)

    assert wide(layers.mlp) == 2
    assert wide(lambda x: stock_mlp(layers.mlp, x)) == of_stock


def test_without_its_adapters_the_mlp_is_the_bare_one(layers, inputs):
    bare = Qwen2MLP(CONFIG).double()
    weights = {n.replace(".base_layer", ""): w for n, w in layers.mlp.state_dict().items()}
    bare.load_state_dict({n: w for n, w in weights.items() if ".lora_" not in n})
    with_adapters = layers.mlp(inputs)
    for layer in layers.modules():
        if isinstance(layer, LeanLora):
            layer.enable_adapters(False)
    assert_close(layers.mlp(inputs), bare(inputs), **EXACT)
    assert (with_adapters - bare(inputs)).abs().max() > 1e-2
    for layer in layers.modules():
        if isinstance(layer, LeanLora):
            layer.enable_adapters(True)
            layer.merge()
    assert_close(layers.mlp(inputs), with_adapters, rtol=1e-9, atol=1e-9)


# ---- the vision tower's first layer --------------------------------------------------------


def test_patches_are_embedded_as_by_the_convolution():
    sizes = {"patch_size": 4, "temporal_patch_size": 2, "in_channels": 3, "embed_dim": 5}
    stock, lean = (kind(**sizes).double() for kind in (Qwen2_5_VisionPatchEmbed, PatchEmbedding))
    lean.load_state_dict(stock.state_dict())
    patches = torch.randn(7, 3 * 2 * 4 * 4, dtype=torch.float64)
    assert_close(lean(patches), stock(patches), **EXACT)
    assert lean(patches.float()).dtype == torch.float64
    lean.proj.weight.data = lean.proj.weight.data.transpose(3, 4)
    assert (lean(patches) - stock(patches)).abs().max() > 1e-2


def test_the_model_is_built_of_them(jina_model):
    assert type(jina_model.model.visual.patch_embed) is PatchEmbedding
    for layer in jina_model.model.language_model.layers:
        assert type(layer.mlp) is GatedMLP
        assert type(layer.self_attn.q_proj) is LeanLora
