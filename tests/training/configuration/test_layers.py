"""Where a setting comes from, what becomes of it, and the files that are shipped."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from transformers import TrainingArguments

from jina.training.config_sections import (
    FIXED_TRAINING_VALUES,
    LIMITED_TRAINING_TYPES,
    OUR_TRAINING_DEFAULTS,
    OUR_TRAINING_FIELDS,
    LoraSection,
    TrainingSection,
)
from jina.training.config_sources import LOCAL_PATH_SETTINGS
from jina.training.training_config import SECTIONS, ConfigError, JinaTrainingConfig, load_config
from jina.training.yaml_loading import parse_yaml
from tests.checkpointing import IS_RENAMED, NAME

ROOT = Path(__file__).parents[3]
DEMO_FILES = ("data/demo/train.jsonl", "data/demo/eval.jsonl")
HF_FIELDS = {field.name: field for field in dataclasses.fields(TrainingArguments)}


# --- layers and where a value came from ----------------------------------------------------------


def test_without_settings_the_defaults_hold_and_nothing_is_changed(load):
    config = load()
    assert config == JinaTrainingConfig()
    assert config.changed_settings() == []


def test_each_layer_overrides_the_one_before(load):
    def output_dir(text, overrides=()):
        config = load(text, overrides)
        changed = {key: origin for key, _, origin in config.changed_settings()}
        return config.training.output_dir, changed.get("training.output_dir")

    text = "training:\n  output_dir: from/project\n"
    assert output_dir("") == ("outputs/models/finetuned", None)
    assert output_dir(text) == ("from/project", "project_config.yaml")
    Path("local_paths.yaml").write_text("output_dir: from/local\n")
    assert output_dir(text) == ("from/local", "local_paths.yaml")
    assert output_dir(text, ["training.output_dir=from/flag"]) == ("from/flag", "--set")


def test_local_paths_are_looked_up_beside_the_configuration(project):
    folder = project / "elsewhere"
    folder.mkdir()
    (folder / "run.yaml").write_text("")
    (project / "local_paths.yaml").write_text("output_dir: wrong\n")
    assert load_config(folder / "run.yaml").changed_settings() == []
    (folder / "local_paths.yaml").write_text("output_dir: right\n")
    assert load_config(folder / "run.yaml").training.output_dir == "right"


def test_changed_settings_leave_out_what_equals_its_default(load):
    text = "loss:\n  temperature: 0.02\n  symmetric: true\ntraining:\n  num_train_epochs: 1\n"
    changed = load(text, ["training.seed=42", "training.weight_decay=1e-2"]).changed_settings()
    assert changed == [
        ("loss.symmetric", True, "project_config.yaml"),
        ("training.weight_decay", 0.01, "--set"),
    ]


def test_an_override_back_to_the_default_is_no_change(load):
    assert load("loss:\n  temperature: 0.1\n", ["loss.temperature=0.02"]).changed_settings() == []


# --- transformers' arguments ---------------------------------------------------------------------


def test_arguments_carry_our_defaults_the_fixed_values_and_the_users(load):
    arguments = load("training:\n  weight_decay: 0.1\n").training_arguments(bf16=False)
    expected = {name: value for name, (value, _) in FIXED_TRAINING_VALUES.items()}
    del expected["fsdp"], expected["fsdp_config"]  # transformers normalizes them
    expected |= OUR_TRAINING_DEFAULTS | {"weight_decay": 0.1, "report_to": ["tensorboard"]}
    for name, value in expected.items():
        assert getattr(arguments, name) == value, name


def test_every_default_of_ours_differs_from_transformers_own_or_is_fixed():
    for name, field in TrainingSection.model_fields.items():
        if name in OUR_TRAINING_FIELDS:
            continue
        ours = field.get_default(call_default_factory=True)
        hf = HF_FIELDS[name]
        theirs = hf.default if hf.default is not dataclasses.MISSING else hf.default_factory()
        if name in OUR_TRAINING_DEFAULTS:
            assert ours != theirs, f"{name}: a row that changes nothing"
        elif name not in FIXED_TRAINING_VALUES:
            assert ours == theirs, name


def test_our_tables_name_only_fields_of_training_arguments():
    tables = (OUR_TRAINING_DEFAULTS, FIXED_TRAINING_VALUES, LIMITED_TRAINING_TYPES)
    assert all(name in HF_FIELDS for table in tables for name in table)
    assert HF_FIELDS.keys().isdisjoint(OUR_TRAINING_FIELDS)
    assert set(TrainingSection.model_fields) == {*HF_FIELDS, *OUR_TRAINING_FIELDS}


@pytest.mark.parametrize(
    ("text", "follows_model"),
    [("", True), ("bf16: false", False), ("fp16: false", True)],
)
def test_bf16_follows_the_model_unless_the_user_names_a_precision(load, text, follows_model):
    config = load(f"training:\n  use_cpu: true\n  {text}\n")
    assert config.training_arguments(bf16=True).bf16 is follows_model
    assert config.training_arguments(bf16=False).bf16 is False


def test_the_users_bf16_outweighs_the_models(load):
    config = load("training:\n  use_cpu: true\n  bf16: true\n")
    assert config.training_arguments(bf16=False).bf16 is True


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_gradient_checkpointing_works_under_the_name_that_the_settings_file_shows(load):
    for is_on in (True, False):
        arguments = load(f"training: {{gradient_checkpointing: {is_on}}}").training_arguments(
            bf16=False
        )
        assert getattr(arguments, NAME) is is_on


@pytest.mark.skipif(not IS_RENAMED, reason="transformers before 5.21 knows one name only")
def test_gradient_checkpointing_works_under_its_old_name_but_not_under_both(load, problems):
    text = "training:\n  gradient_checkpointing: true\n"
    with pytest.warns(FutureWarning):
        assert load(text).training_arguments(bf16=False).activation_checkpointing is True
    assert load().training_arguments(bf16=False).activation_checkpointing is False
    [problem] = problems(f"{text}  activation_checkpointing: false\n")
    assert "training.gradient_checkpointing: the old name" in problem


def test_evaluation_steps_become_transformers_own(load):
    arguments = load("evaluation:\n  every_steps: 7\n").training_arguments(bf16=False)
    assert (arguments.eval_strategy, arguments.eval_steps) == ("steps", 7)
    assert load().training_arguments(bf16=False).eval_strategy == "no"


def test_building_arguments_writes_nothing(load, project):
    before = sorted(project.rglob("*"))
    config = load()
    config.training_arguments(bf16=False)
    assert sorted(project.rglob("*")) == sorted({*before, project / "project_config.yaml"})


# --- the object ----------------------------------------------------------------------------------


def test_a_loaded_configuration_can_not_be_changed(load):
    config = load()
    with pytest.raises(ValidationError):
        config.loss.temperature = 1.0
    with pytest.raises(ValidationError):
        config.loss = None


def test_a_section_built_in_code_is_as_strict():
    assert LoraSection(tasks=["code"]).tasks == ["code"]
    with pytest.raises(ValidationError):
        LoraSection(taks=["code"])
    with pytest.raises(ValidationError):
        TrainingSection(remove_unused_columns=True)


def test_data_files_are_lists_of_paths_in_any_case(load):
    data = load("data:\n  train: [data/demo/train.jsonl, data/demo/eval.jsonl]\n  eval:\n").data
    assert data.train_files == [Path(file) for file in DEMO_FILES]
    assert data.eval_files == []
    assert load().data.eval_files == [Path("data/demo/eval.jsonl")]


def test_the_base_model_is_required_with_the_way_to_set_it(load, project):
    with pytest.raises(ConfigError, match="not set; got null; copy local_paths.example.yaml"):
        load().require_base_model_path()
    with pytest.raises(ConfigError, match="make demo"):
        load().require_base_model_path()
    wrong = load("model:\n  base_model_path: nowhere\n")
    with pytest.raises(ConfigError, match=r"project_config.yaml:2: .* no such folder.*make demo"):
        wrong.require_base_model_path()
    right = load("", ["model.base_model_path=data"])
    assert right.require_base_model_path() == Path("data")


# --- the shipped files ---------------------------------------------------------------------------


def test_the_shipped_configuration_loads_and_shows_the_defaults(project):
    shutil.copy(ROOT / "project_config.yaml", project)
    assert load_config("project_config.yaml").changed_settings() == []


def test_the_shipped_configuration_shows_each_of_our_settings():
    shown = parse_yaml((ROOT / "project_config.yaml").read_text("utf-8"), source="x").value
    assert list(shown) == list(SECTIONS)
    for name, section in SECTIONS.items():
        if name == "training":
            assert set(OUR_TRAINING_DEFAULTS) <= set(shown[name])
        else:
            assert list(shown[name]) == list(section.model_fields)


def test_the_example_of_local_paths_sets_nothing_until_uncommented(load):
    example = (ROOT / "local_paths.example.yaml").read_text("utf-8")
    Path("local_paths.yaml").write_text(example)
    assert load().changed_settings() == []
    keys = [line.removeprefix("# ") for line in example.splitlines() if "/" in line and ":" in line]
    values = parse_yaml("\n".join(key for key in keys if ": /" in key), source="x").value
    assert list(values) == list(LOCAL_PATH_SETTINGS)


def test_each_of_our_settings_has_a_description():
    sections = [section for name, section in SECTIONS.items() if name != "training"]
    assert all(field.description for section in sections for field in section.model_fields.values())
