"""What makes two runs the same one."""

import json

import pytest
from PIL import Image

from jina.data.multimodal_dataset import MultimodalDataset
from jina.training.run_identity import (
    code_digests,
    differences,
    known_names,
    rows_digest,
    run_identity,
    settings_that_matter,
)
from jina.training.training_config import FIELDS, load_config


@pytest.fixture
def identity(tmp_path, tiny_folder, rows, write_rows):
    """Return a function from settings to the identity of the run they make."""
    file = write_rows(rows)

    def of(*overrides, processes=1):
        config = tmp_path / "config.yaml"
        config.write_text(
            json.dumps(
                {
                    "data": {"train": str(file), "eval": None},
                    "training": {"output_dir": str(tmp_path / "out"), "use_cpu": True},
                }
            )
        )
        dataset = MultimodalDataset(file)
        settings = load_config(config, overrides)
        datasets = {"data.train": dataset, "data.eval": None}
        return run_identity(settings, tiny_folder, datasets, processes=processes)

    return of


ALTERING = [
    "training.learning_rate=1e-3", "training.seed=1", "training.max_steps=7",
    "training.per_device_train_batch_size=4", "training.gradient_accumulation_steps=2",
    "training.tokens_per_micro_batch=100", "training.weight_decay=0.1", "loss.temperature=0.1",
    "loss.symmetric=true", "lora.dropout=0.2", "lora.init=new", "data.max_pixels=12544",
    "data.one_source_per_batch=true", "model.dtype=bfloat16", "training.max_grad_norm=2.0",
]  # fmt: skip
IDLE = [
    "training.logging_steps=5", "training.output_dir=elsewhere", "training.save_steps=3",
    "training.save_total_limit=9", "training.dataloader_num_workers=2", "training.run_name=x",
    "training.disable_tqdm=true", "training.per_device_eval_batch_size=4",
]  # fmt: skip


def test_every_setting_that_alters_the_result_is_named_when_it_changes(identity, tmp_path):
    before = identity()
    for override in ALTERING:
        key = override.partition("=")[0]
        [line] = differences(before, identity(override))
        assert line.startswith(f"{key}: was ")
        assert not differences(before, identity(override), allowed=[key])


def test_settings_that_only_change_output_or_speed_make_no_other_run(
    identity, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = identity()
    for override in IDLE:
        assert identity(override) == before


def test_evaluation_matters_only_to_a_run_that_ends_with_its_best_checkpoint(tmp_path, write_rows):
    file = write_rows([{"query": "a", "positive": "b"}])
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"data": {"train": str(file), "eval": str(file)}}))
    best = [f"training.{text}" for text in ("load_best_model_at_end=true", "save_steps=10")]
    for extra, matters in (([], False), (best, True)):
        found = [
            settings_that_matter(load_config(config, [f"evaluation.every_steps={n}", *extra]))
            for n in (5, 10)
        ]
        assert (found[0] != found[1]) is matters


def test_rows_pictures_base_model_and_processes_are_part_of_it(
    identity, rows, write_rows, tmp_path, tiny_folder
):
    before = identity()
    assert differences(before, identity(processes=2)) == ["processes: was 1, is 2"]
    Image.new("RGB", (56, 84), "white").save(tmp_path / "red.png")
    [line] = differences(before, identity())
    assert line.startswith("data.train: was ")
    Image.new("RGB", (56, 84), "red").save(tmp_path / "red.png")
    assert identity() == before
    rows[0]["positive"] += "!"
    write_rows(rows)
    [line] = differences(before, identity())
    assert line.startswith("data.train: was ")


def test_the_order_of_rows_counts_and_the_place_of_files_does_not(rows, write_rows, tmp_path):
    plain = rows_digest(MultimodalDataset(write_rows(rows)))
    assert rows_digest(MultimodalDataset(write_rows(rows, name="moved.jsonl"))) == plain
    assert rows_digest(MultimodalDataset(write_rows(rows[::-1]))) != plain


def test_modules_that_the_result_depends_on_are_told_one_by_one():
    digests = code_digests()
    assert {"models/losses.py", "data/batch_sampler.py", "training/jina_trainer.py"} <= set(digests)
    assert not [name for name in digests if name.startswith(("commands", "retrieval", "export"))]
    changed = {f"code:{name}": digest for name, digest in digests.items()}
    changed["code:models/losses.py"] = "other"
    before = {f"code:{name}": digest for name, digest in digests.items()}
    assert differences(before, changed) == ["code: other modules: models/losses.py"]
    assert not differences(before, changed, allowed=["code"])


def test_an_identity_is_json_and_names_nothing_unknown(identity):
    found = identity()
    assert json.loads(json.dumps(found)) == found
    names = {name.partition(":")[0] for name in found}
    assert names <= set(known_names())
    assert {name for name in found if name in FIELDS}
