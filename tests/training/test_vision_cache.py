"""The feature cache in a run: the same course, fewer images read, and off where it would err."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers import TrainerCallback

from jina.data.data_collator import ContrastiveDataCollator
from jina.data.multimodal_dataset import DataError, DataPolicy, MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.training import jina_trainer
from jina.training.config_sections import DataSection, LossSection, TrainingSection
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.run_inputs import RunInputs
from jina.training.training_config import JinaTrainingConfig
from jina.training.vision_cache import cache_key, describe_cache, open_vision_cache

QUIET = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "warmup_steps": 0.0}
QUIET |= {"eval_strategy": "no", "eval_on_start": False, "report_to": "none"}


@pytest.fixture
def pictures(tmp_path):
    """Twelve rows of eight noisy pictures of several sizes; some come twice, or as a negative."""
    rows = []
    for number in range(8):
        generator = torch.Generator().manual_seed(number)
        size = (56 + 28 * (number % 3), 84)
        noise = torch.randint(256, (*size, 3), generator=generator).to(torch.uint8)
        Image.fromarray(noise.numpy()).save(tmp_path / f"{number}.png")
        rows.append({"query_image": f"{number}.png", "positive": f"picture number {number}"})
    again = [{**rows[n], "positive": f"number {n} once more"} for n in range(4)]
    again[0]["negative_image"] = ["5.png", "6.png"]
    return rows + again


class Run:
    """A trainer of two epochs with its cache, and what happened in it."""

    def __init__(
        self, folder, file, tmp_path, *, deep=True, tower=None, dtype="float32", **options
    ):
        data = {n: options.pop(n) for n in [*options] if n.startswith(("vision", "image_size"))}
        training = {
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-4,
            "num_train_epochs": 2.0,
        }
        section = TrainingSection(
            output_dir=str(tmp_path / "out"), **{**QUIET, **training, **options}
        )
        config = JinaTrainingConfig(
            data=DataSection(train=str(file), **data),
            training=section,
            loss=LossSection(temperature=0.1),  # at 0.02 rounding is looked at through a lens
        )
        args = config.training_arguments(bf16=False)
        model = JinaEmbeddingsV4Model.from_pretrained(folder, dtype=dtype, device="cpu")
        if tower:
            tower(model.model.visual)
        model.train_adapters("retrieval", dropout=0.0)
        processor = model.processor.with_image_settings(square=config.data.image_size)
        dataset = MultimodalDataset(file, policy=DataPolicy(is_deep=deep))
        inputs = RunInputs(folder, processor, dataset, None)
        self.cache = open_vision_cache(config, model, inputs, args)
        self.settings, self.model, self.dataset = processor.image_settings, model, dataset
        self.trainer = JinaEmbeddingTrainer(
            model,
            args,
            loss=config.loss,
            data=config.data,
            micro_batches=section,
            vision_cache=self.cache,
            train_dataset=dataset,
            data_collator=ContrastiveDataCollator(processor, max_text_tokens=64),
        )
        self.patches = []  # that the tower has seen, epoch by epoch
        model.model.visual.register_forward_pre_hook(self._count)

    def _count(self, _, inputs):
        epoch = int(self.trainer.state.epoch or 0)
        self.patches += [0] * (epoch + 1 - len(self.patches))
        self.patches[epoch] += len(inputs[0])

    def train(self):
        self.trainer.train()
        return [h["contrastive_loss"] for h in self.trainer.state.log_history if "grad_norm" in h]


@pytest.fixture
def run(tiny_folder, pictures, write_rows, tmp_path):
    """Return a function that prepares a run on the twelve rows."""

    def make(**options):
        return Run(tiny_folder, write_rows(pictures), tmp_path, **options)

    return make


class Deleting(TrainerCallback):
    """Deletes every image when the first epoch has ended."""

    def __init__(self, folder):
        self.folder = folder

    def on_epoch_end(self, *_, **__):
        for file in self.folder.glob("*.png"):
            file.unlink()


# ---- the same course -----------------------------------------------------------------------------


@pytest.mark.slow
def test_two_epochs_end_at_the_same_loss_with_the_levers_and_without(run, monkeypatch):
    losses = {mode: run(vision_cache=mode).train() for mode in ("off", "memory", "disk")}
    again = run(vision_cache="disk").train()
    other = run(vision_cache="off", image_size=56).train()
    monkeypatch.setattr(jina_trainer, "distinct_items", lambda c: ([*range(len(c))],) * 2)
    plain = run(vision_cache="off").train()
    assert len(plain) == 6
    for found in (*losses.values(), again):
        assert abs(found[-1] - plain[-1]) <= 1e-4
    assert max(abs(a - b) for a, b in zip(losses["off"], plain, strict=True)) <= 1e-4
    assert losses["memory"] == losses["disk"]
    assert abs(other[-1] - plain[-1]) > 1e-2


@pytest.mark.slow
def test_in_bfloat16_the_cache_rounds_nothing(run):
    """Eight binary digits go into float16's eleven; float32's 24 don't."""
    for dtype in ("bfloat16", "float32"):
        off, on = (run(vision_cache=mode, dtype=dtype).train() for mode in ("off", "memory"))
        assert (off == on) == (dtype == "bfloat16")


def test_the_gradient_is_off_by_what_float16_rounds_and_no_more(run):
    def gradient(mode):
        one = run(vision_cache=mode)
        batch = next(iter(one.trainer.get_train_dataloader()))
        one.trainer.compute_loss(one.model, batch).backward()
        return torch.cat([p.grad.flatten() for p in one.model.trained_parameters().values()])

    exact, rounded = gradient("off"), gradient("memory")
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 5e-4


def test_what_was_in_the_cache_before_changes_no_bit(run):
    empty = run(vision_cache="disk").train()
    assert run(vision_cache="disk").train() == empty


# ---- fewer images read ---------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_after_the_first_epoch_no_image_is_read(run, tmp_path, mode, workers):
    one = run(vision_cache=mode, dataloader_num_workers=workers)
    one.trainer.add_callback(Deleting(tmp_path))
    one.train()
    assert one.trainer.state.epoch == 2
    assert not [*tmp_path.glob("*.png")]
    assert one.patches[0] > 0
    assert sum(one.patches[1:]) == 0


def test_without_the_cache_images_are_read_and_encoded_in_every_epoch(run, decoded):
    one = run(vision_cache="off")
    decoded.clear()  # the check of the rows has read them
    one.train()
    assert len(decoded) >= 2 * 8
    assert one.patches[0] == one.patches[1] > 0


def test_the_next_run_reads_no_image_at_all(run, tmp_path, decoded):
    run(vision_cache="disk").train()
    one = run(vision_cache="disk")
    decoded.clear()
    one.train()
    assert (decoded, one.patches) == ([], [])


def test_a_half_built_cache_is_gone_on_with(run, decoded):
    run(vision_cache="disk", max_steps=1).train()
    one = run(vision_cache="disk")
    known = one.dataset.known.images()
    assert 2 <= len(known) < 8
    decoded.clear()
    one.train()
    assert 0 < len({*decoded}) <= 8 - len(known)  # a batch loaded ahead may read one of them again


def test_an_evaluation_learns_and_uses_features_too(run, decoded):
    one = run(vision_cache="memory", per_device_eval_batch_size=4)
    one.trainer.eval_dataset = one.dataset
    first = one.trainer.evaluate()["eval_loss"]
    decoded.clear()
    assert one.trainer.evaluate()["eval_loss"] == first
    assert decoded == []


# ---- damage, limits ------------------------------------------------------------------------------


def test_damaged_features_are_said_and_made_again(run, tmp_path, decoded, caplog):
    expected = run(vision_cache="disk").train()
    (file,) = (tmp_path / "cache" / "vision").rglob("*.features")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 64
    file.write_bytes(data)
    one = run(vision_cache="disk")
    decoded.clear()
    assert one.train() == expected
    assert caplog.text.count("features of an image are damaged") == 1
    assert len(decoded) == 1
    third = run(vision_cache="disk")
    decoded.clear()
    third.train()
    assert decoded == []


def test_damaged_features_of_an_image_that_has_changed_stop_the_run(run, tmp_path):
    run(vision_cache="disk").train()
    (file,) = (tmp_path / "cache" / "vision").rglob("*.features")
    file.write_bytes(bytes(file.stat().st_size))
    one = run(vision_cache="disk")
    Image.new("RGB", (56, 84)).save(tmp_path / "3.png")
    with pytest.raises(DataError, match="image has changed since it was checked"):
        one.train()


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_a_full_cache_says_so_once_and_the_run_goes_on(run, caplog, mode):
    expected = run(vision_cache="memory").train()
    limited = run(vision_cache=mode, vision_cache_gib=4e-6)  # 4,295 bytes, 16 tokens of 128
    assert limited.train() == pytest.approx(expected, abs=1e-4)
    assert 0 < limited.cache.store.nbytes <= 4e-6 * 2**30
    assert caplog.text.count("vision cache: is full") == 1
    assert limited.patches[1] > 0


def test_a_folder_that_cannot_be_written_is_said_once_and_the_run_goes_on(run, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    one = run(vision_cache="disk")
    one.train()
    assert caplog.text.count("vision cache: can't be written") == 1
    assert one.patches[1] > 0


def test_a_folder_that_cannot_be_read_is_said_and_the_run_goes_on(run, caplog, monkeypatch):
    def fail(_):
        raise PermissionError("not yours")

    one = run(vision_cache="disk")
    monkeypatch.setattr(type(one.cache.store), "refresh", fail)
    losses = one.train()
    assert "vision cache: can't be read; got not yours; images are encoded" in caplog.text
    assert losses == pytest.approx(run(vision_cache="off").train(), rel=1e-4)


# ---- off where it would be wrong -----------------------------------------------------------------


def huge(tower):
    tower.merger.mlp[2].weight.data.mul_(1e9)


def test_features_that_float16_cannot_hold_are_used_as_they_are(run, caplog):
    expected = run(vision_cache="off", tower=huge).train()
    one = run(vision_cache="memory", tower=huge)
    assert one.train() == expected
    assert one.cache.store.nbytes == 0
    assert caplog.text.count("features beyond float16") == 1


def trained(tower):
    next(tower.parameters()).requires_grad_(True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"deep": False}, "got data.check_images: headers"),
        ({"tower": trained}, "the vision tower is trained; got 1 trainable tensors"),
    ],
)
def test_it_is_off_and_says_why_where_features_could_be_wrong(run, caplog, options, reason):
    one = run(vision_cache="disk", **options)
    assert one.cache is None
    assert one.dataset.known is None
    assert "data.vision_cache: off for this run: " in caplog.text
    assert reason in caplog.text


def test_rows_without_images_need_no_cache(tiny_folder, write_rows, tmp_path, caplog):
    file = write_rows([{"query": f"a {n}", "positive": f"b {n}"} for n in range(8)])
    assert Run(tiny_folder, file, tmp_path, vision_cache="disk").cache is None
    assert "got rows without images" in caplog.text


# ---- keys ----------------------------------------------------------------------------------------


def test_a_key_knows_image_settings_weights_types_and_mixed_precision(fresh_model):
    def key(*, change=None, dtype="float32", is_mixed=False, **settings):
        model = fresh_model(dtype=dtype)
        if change:
            change(model)
        own = replace(model.processor.image_settings, **settings)
        return cache_key(model.model.visual, own, is_mixed=is_mixed)

    def bump(name):
        def change(model):
            model.get_parameter(name).data.view(-1)[0] += 1e-3

        return change

    tower = "model.visual"
    same = {key(), key(), key(change=bump("model.language_model.norm.weight"))}
    others = [
        key(max_pixels=5000),
        key(min_pixels=784),
        key(square=56),
        key(image_mean=(0.5, 0.5, 0.5)),
        key(change=bump(f"{tower}.patch_embed.proj.weight")),
        key(change=bump(f"{tower}.merger.mlp.2.bias")),
        key(dtype="bfloat16"),
        key(is_mixed=True),
    ]
    assert len(same) == 1
    assert len(same | {*others}) == 1 + len(others)


def test_runs_of_other_image_sizes_share_nothing(run, decoded):
    run(vision_cache="disk").train()
    one = run(vision_cache="disk", image_size=56)
    assert len(one.dataset.known.images()) == 0
    assert len(run(vision_cache="disk").dataset.known.images()) == 8


def test_the_report_says_where_features_are_and_how_much_room_they_take(run, tmp_path):
    run(vision_cache="disk").train()
    one = run(vision_cache="disk")
    ((_, said),) = describe_cache(one.cache, one.settings)
    assert said.startswith(str(tmp_path / "cache" / "vision"))
    assert "8 of 8 images known" in said
    assert f"all take {one.cache.store.nbytes / 2**30:.3g} of 32 GiB" in said
    assert dict(describe_cache(None, one.settings)) == {"vision cache": "off"}
