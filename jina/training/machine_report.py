"""What a machine has, and what a run will make of it: `python -m jina doctor`."""

import platform
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch
from transformers.utils import is_flash_attn_2_available

from jina.models.checkpoint import Checkpoint, CheckpointError
from jina.models.configuration_jina_embeddings_v4 import read_config
from jina.models.flops import TERA, StepFlops, peak_tflops
from jina.models.placement import set_attention
from jina.training.data_report import check_data
from jina.training.step_estimate import GIB
from jina.training.training_config import ConfigError, JinaTrainingConfig

PACKAGES = ("transformers", "peft", "accelerate", "flash-attn", "liger-kernel")
USUAL_SHARE = 0.4  # of a GPU's peak that training reaches; of measured products, on a CPU
PRODUCT_SIZE, PRODUCTS = 1024, 8

Rows = Iterator[tuple[str, str]]


def describe_machine() -> Rows:
    """Say which packages and devices there are."""
    yield "Python", platform.python_version()
    yield "torch", torch.__version__  # with what it was built for, which its package may not say
    for package in PACKAGES:
        yield package, _version(package)
    yield "flash attention", "usable" if is_flash_attn_2_available() else "not usable here"
    if not torch.cuda.is_available():
        yield "GPU", "none; training runs on the CPU"
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        peak = peak_tflops(torch.device("cuda", number))
        known = f", {peak:g} TFLOP/s at most in bfloat16" if peak else ""
        yield f"GPU {number}", f"{properties.name}, {properties.total_memory / GIB:.0f} GiB{known}"


def describe_run(config: JinaTrainingConfig) -> Rows:
    """Say what a run will use, and estimate its memory and speed.

    Raises:
        ConfigError: no usable base checkpoint is set, or there is nothing to train on.
        DataError: a data file can't be read.
    """
    try:
        checkpoint = Checkpoint.open(config.require_base_model_path())
    except CheckpointError as error:
        raise ConfigError([str(error)]) from error
    model = read_config(checkpoint.path)
    on_gpu = torch.cuda.is_available() and not config.training.use_cpu
    device = torch.device("cuda" if on_gpu else "cpu")
    if config.model.dtype != "auto":
        model.dtype = getattr(torch, config.model.dtype)
    set_attention(model, config.model.attn_implementation, device)
    precision = str(model.dtype or torch.float32).removeprefix("torch.")
    yield "device", f"{device}, weights in {precision}"
    yield "attention", model.text_config._attn_implementation

    figures = check_data([], config=config).figures
    step = figures["step"]
    yield "pairs a batch", f"{step['batch_size']}, about {step['tokens']:,} tokens"
    micro = config.training.tokens_per_micro_batch
    passes = 1 if micro is None else -(-step["tokens"] // micro)
    yield "micro-batches", f"{passes}" + (f" of up to {micro:,} tokens" if passes > 1 else "")
    memory = step["memory_gib"]
    parts = ", ".join(f"{name} {size:.2f}" for name, size in memory.items())
    yield "memory", f"about {sum(memory.values()):.1f} GiB: {parts}"

    rank = config.lora.r or checkpoint.adapter_settings.rank
    items = step["batch_size"] * (2 + step["hard_negatives_per_query"] / step["batch_size"])
    images = figures["images"]
    vision = images.get("median", 0) * images["images"] / max(1, figures["rows"])
    flops = StepFlops.of(model, rank).step(
        [round(step["tokens"] / items)] * round(items), round(vision * step["batch_size"])
    )
    reachable = USUAL_SHARE * (peak_tflops(device) or measured_tflops(device))
    if passes > 1:
        flops *= 4 / 3  # the forward pass runs twice
    speed = reachable * TERA / flops * step["batch_size"]
    yield "arithmetic of a step", f"{flops / TERA:,.3g} TFLOP"
    yield "speed", f"perhaps {speed:,.3g} pairs/s, at {reachable:,.3g} TFLOP/s"


def measured_tflops(device: torch.device) -> float:
    """Multiply a few matrices in float32, and return how fast that went."""
    matrix = torch.ones(PRODUCT_SIZE, PRODUCT_SIZE, device=device)
    matrix @ matrix  # the first one loads libraries
    started = time.perf_counter()
    for _ in range(PRODUCTS):
        product = matrix @ matrix
    product[0, 0].item()  # waits for a GPU
    return 2 * PRODUCT_SIZE**3 * PRODUCTS / (time.perf_counter() - started) / TERA


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
