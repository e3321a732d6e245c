"""The configuration of a run: which keys and values are accepted, and how others are refused."""

import pytest

from jina.training.training_config import FIELDS, SECTIONS


def section_and_name(key):
    section, _, name = key.partition(".")
    return section, name


# --- names ---------------------------------------------------------------------------------------


def misspell(name):
    """Drop a letter, or double one where that gives another name."""
    dropped = [name[:i] + name[i + 1 :] for i in range(len(name) // 2, len(name))]
    doubled = [name[:i] + name[i] + name[i:] for i in range(len(name))]
    taken = {key.partition(".")[2] for key in FIELDS}
    return next(word for word in (*dropped, *doubled) if word and word not in taken)


@pytest.mark.parametrize("key", FIELDS)
def test_each_misspelt_key_is_refused_and_the_right_one_named(problems, key):
    section, name = section_and_name(key)
    wrong = misspell(name)
    (problem,) = problems(f"{section}:\n  {wrong}: 1\n")
    assert problem.startswith(f"project_config.yaml:2: {section}.{wrong}: unknown key; got ")
    assert problem.endswith(f"did you mean {name}?")


@pytest.mark.parametrize("key", FIELDS)
def test_each_key_in_a_foreign_section_is_sent_home(problems, key):
    section, name = section_and_name(key)
    foreign = "loss" if section != "loss" else "training"
    (problem,) = problems("", [f"{foreign}.{name}=1"])
    assert problem.endswith(f"{name} belongs to {section}:")


@pytest.mark.parametrize("section", SECTIONS)
def test_each_misspelt_section_is_refused_and_the_right_one_named(problems, section):
    (problem,) = problems(f"{section[:-1]}:\n  x: 1\n")
    assert problem.endswith(f"did you mean {section}?")


# --- values --------------------------------------------------------------------------------------

WRONG_VALUES = [
    ("model.base_model_path", "5"),
    ("model.base_model_path", "''"),
    ("model.base_model_path", "[a]"),
    ("model.dtype", "bf16"),
    ("model.dtype", "null"),
    ("model.attn_implementation", "sdpa"),
    ("lora.tasks", "retrieval"),
    ("lora.tasks", "[retreival]"),
    ("lora.tasks", "[]"),
    ("lora.tasks", "null"),
    ("lora.init", "true"),
    ("lora.r", "16.0"),
    ("lora.r", "'16'"),
    ("lora.r", "0"),
    ("lora.r", "true"),
    ("lora.r", "016"),
    ("lora.alpha", "0"),
    ("lora.alpha", "'32'"),
    ("lora.alpha", ".inf"),
    ("lora.dropout", "1"),
    ("lora.dropout", "-0.1"),
    ("lora.dropout", "false"),
    ("data.train", "null"),
    ("data.train", "[]"),
    ("data.train", "[a.jsonl, 5]"),
    ("data.train", "{a: b}"),
    ("data.eval", "7"),
    ("data.eval", "false"),
    ("data.image_base_dir", "1.5"),
    ("data.min_pixels", "783"),
    ("data.max_pixels", "1e6"),
    ("data.max_pixels", "602_112"),
    ("data.image_size", "450"),
    ("data.image_size", "0"),
    ("data.max_text_tokens", "32769"),
    ("data.max_text_tokens", "null"),
    ("data.max_text_tokens", "8k"),
    ("data.check_images", "deep"),
    ("data.check_images", "true"),
    ("data.on_bad_sample", "ignore"),
    ("data.on_bad_sample", "null"),
    ("data.max_bad_fraction", "1"),
    ("data.max_bad_fraction", "-0.1"),
    ("data.max_bad_fraction", "1%"),
    ("data.vision_cache", "ram"),
    ("data.vision_cache", "true"),
    ("data.vision_cache_gib", "0"),
    ("data.vision_cache_gib", "32GiB"),
    ("loss.temperature", "0"),
    ("loss.temperature", "-0.02"),
    ("loss.temperature", ".nan"),
    ("loss.temperature", "1e999"),
    ("loss.temperature", "true"),
    ("loss.temperature", "2:30"),
    ("loss.symmetric", "yes"),
    ("loss.symmetric", "1"),
    ("loss.symmetric", "'true'"),
    ("evaluation.every_steps", "0"),
    ("evaluation.every_steps", "1.5"),
    ("evaluation.every_steps", "steps"),
    ("evaluation.direction", "back"),
    ("training.output_dir", "null"),
    ("training.learning_rate", "'1e-5'"),
    ("training.learning_rate", "0"),
    ("training.learning_rate", "-1e-5"),
    ("training.learning_rate", ".inf"),
    ("training.learning_rate", "[1e-5]"),
    ("training.per_device_train_batch_size", "1"),
    ("training.per_device_train_batch_size", "32.0"),
    ("training.per_device_eval_batch_size", "1"),
    ("training.gradient_accumulation_steps", "0"),
    ("training.num_train_epochs", "0"),
    ("training.num_train_epochs", "three"),
    ("training.max_steps", "1e3"),
    ("training.warmup_steps", "-1"),
    ("training.weight_decay", "-0.1"),
    ("training.adam_beta1", "'0.9'"),
    ("training.optim", "adamw"),
    ("training.optim", "5"),
    ("training.lr_scheduler_type", "cosin"),
    ("training.lr_scheduler_type", "true"),
    ("training.lr_scheduler_kwargs", "[1]"),
    ("training.eval_strategy", "off"),
    ("training.eval_strategy", "false"),
    ("training.save_strategy", "step"),
    ("training.hub_strategy", "never"),
    ("training.debug", "[overflow]"),
    ("training.bf16", "yes"),
    ("training.bf16", "1"),
    ("training.tf32", "on"),
    ("training.seed", "010"),
    ("training.seed", "null"),
    ("training.save_total_limit", "0"),
    ("training.save_steps", "0"),
    ("training.logging_steps", "0"),
    ("training.dataloader_num_workers", "-1"),
    ("training.dataloader_num_workers", "two"),
    ("training.report_to", "tensorbord"),
    ("training.report_to", "[none, wnadb]"),
    ("training.report_to", "[auto, wandb]"),
    ("training.report_to", "all"),
    ("training.report_to", "clearml"),
    ("training.hub_strategy", "every_save"),
    ("training.hub_always_push", "true"),
    ("training.run_name", "5"),
    ("training.train_sampling_strategy", "group_by_length"),
    ("training.liger_kernel_config", "{rope: 1}"),
]


@pytest.mark.parametrize(("key", "text"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_its_key_and_line(problems, key, text):
    section, name = section_and_name(key)
    (problem,) = problems(f"# a comment\n{section}:\n  {name}: {text}\n")
    assert problem.startswith(f"project_config.yaml:3: {key}: ")
    assert problem.count("; ") >= 2
    assert "Input should" not in problem


RIGHT_VALUES = [
    ("model.base_model_path", "/some/where", "/some/where"),
    ("model.dtype", "bfloat16", "bfloat16"),
    ("model.attn_implementation", "packed_sdpa", "packed_sdpa"),
    ("lora.tasks", "[text-matching, code]", ["text-matching", "code"]),
    ("lora.init", "new", "new"),
    ("lora.dropout", "0", 0.0),
    ("data.eval", "null", None),
    ("data.image_base_dir", "data/demo", "data/demo"),
    ("data.min_pixels", "784", 784),
    ("data.max_pixels", "602112", 602112),
    ("data.image_size", "448", 448),
    ("data.max_text_tokens", "32768", 32768),
    ("data.check_images", "headers", "headers"),
    ("data.on_bad_sample", "skip", "skip"),
    ("data.max_bad_fraction", "0", 0.0),
    ("data.vision_cache", "disk", "disk"),
    ("data.vision_cache", "off", "off"),
    ("data.vision_cache_gib", "0.5", 0.5),
    ("loss.temperature", "1", 1.0),
    ("loss.temperature", "5e-2", 0.05),
    ("loss.symmetric", "true", True),
    ("evaluation.every_steps", "50", 50),
    ("evaluation.direction", "both", "both"),
    ("training.learning_rate", "1e-5", 1e-5),
    ("training.learning_rate", "1", 1.0),
    ("training.per_device_train_batch_size", "2", 2),
    ("training.optim", "adafactor", "adafactor"),
    ("training.lr_scheduler_type", "linear", "linear"),
    ("training.lr_scheduler_kwargs", "{num_cycles: 2}", {"num_cycles": 2}),
    ("training.eval_strategy", "epoch", "epoch"),
    ("training.save_strategy", "no", "no"),
    ("training.save_total_limit", "null", None),
    ("training.warmup_steps", "100", 100.0),
    ("training.debug", "underflow_overflow", "underflow_overflow"),
    ("training.bf16", "false", False),
    ("training.report_to", "[none]", ["none"]),
    ("training.average_tokens_across_devices", "false", False),
]


@pytest.mark.parametrize(("key", "text", "value"), RIGHT_VALUES)
@pytest.mark.parametrize("by_override", [False, True])
def test_a_right_value_is_accepted_from_file_and_override(load, key, text, value, by_override):
    section, name = section_and_name(key)
    file_text = "" if by_override else f"{section}:\n  {name}: {text}\n"
    config = load(file_text, [f"{key}={text}"] if by_override else [])
    given = getattr(getattr(config, section), name)
    assert given == value
    assert type(given) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "nearest"),
    [
        ("lora.tasks", "[retreival]", "retrieval"),
        ("lora.tasks", "[text_matching]", "text-matching"),
        ("model.dtype", "bfloat", "bfloat16"),
        ("model.attn_implementation", "flash_attn_2", "flash_attention_2"),
        ("training.optim", "adamw_torc", "adamw_torch"),
        ("training.lr_scheduler_type", "Cosine", "cosine"),
        ("training.save_strategy", "epochs", "epoch"),
        ("training.report_to", "[wandb, tensorbord]", "tensorboard"),
    ],
)
def test_a_misspelt_choice_names_the_nearest(problems, key, text, nearest):
    (problem,) = problems("", [f"{key}={text}"])
    assert f"{key}: unknown choice" in problem
    assert problem.endswith(f"did you mean {nearest}?")


def test_a_choice_like_none_lists_them_all(problems):
    (problem,) = problems("lora:\n  tasks: [xyzzy]\n")
    assert problem.endswith("use one of retrieval, text-matching, code")


def test_a_range_is_explained_in_words(problems):
    (problem,) = problems("training:\n  per_device_train_batch_size: 1\n")
    assert problem == (
        "project_config.yaml:2: training.per_device_train_batch_size: must be greater than or "
        "equal to 2; got 1; a batch of one has no in-batch negatives"
    )


def test_a_path_under_the_home_folder_is_expanded_and_others_stay(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    config = load("model:\n  base_model_path: ~/jina\n")
    assert config.model.base_model_path == "/home/someone/jina"
    assert load("model:\n  base_model_path: ./a/../b\n").model.base_model_path == "./a/../b"
