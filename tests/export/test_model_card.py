"""The model card: what it tells, what it keeps to itself, and that the hub can read it."""

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from jina.export.model_card import model_card, read_base, read_card_facts

CONFIGURATION = {
    "model": {"base_model_path": "/home/somebody/models/jina-v4", "dtype": "bfloat16"},
    "data": {
        "train": ["C:\\Users\\somebody\\train.jsonl", "~/more.jsonl"],
        "max_text_tokens": 8192,
    },
    "lora": {"task": "retrieval", "r": None},
    "training": {
        "learning_rate": 1e-4,
        "hub_token": "hf_verysecret",
        "api_key": "verysecret",
        "report_to": ["none"],
        "bf16": True,
        "output_dir": "./outputs/models/finetuned/",
    },
}
DATA = {"rows to train on": 679, "held-out rows": 120}
METRICS = {
    "nDCG@10": {"before": (0.51234, 0.45, 0.57), "after": (0.7, 0.65, 0.75)},
    "recall@1": {"after": (0.4, 0.3, 0.5)},
}


@pytest.fixture
def card():
    return model_card(CONFIGURATION, DATA, METRICS, loading="Load it **so**.")


def test_the_hub_reads_the_metadata(card):
    data = ModelCard(card).data
    assert data.base_model == "jinaai/jina-embeddings-v4"
    assert data.license == "other"
    assert re.fullmatch("[a-z0-9-]+", data.license_name)
    assert "jina-embeddings-v4" in data.tags
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"nDCG@10": 0.7, "recall@1": 0.4}


def test_a_card_without_results_has_no_results_block():
    text = model_card(CONFIGURATION, DATA)
    assert ModelCard(text).data.eval_results is None
    assert "## Results" not in text
    assert "## Parity" not in text


def test_the_licence_warning_is_always_there(card):
    assert "may not be used\n> commercially" in card
    assert "may not be used\n> commercially" in model_card({}, {})


def test_what_derives_from_another_checkpoint_names_that_one_and_its_licence(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Small\n", encoding="utf-8")
    base = read_base(folder, 192)
    text = model_card(CONFIGURATION, DATA, METRICS, base)
    data = ModelCard(text).data
    assert (data.license, data.base_model) == ("cc-by-4.0", None)
    assert data.model_name == "small-finetuned"
    assert "jinaai" not in text
    assert "Made from `small` with" in text
    assert read_base(folder, 2048) == {}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "# My own card",
        "---\nlicense: [\n---\n",
        "---\nlicense: [mit, gpl]\n---\n",
        '---\nlicense: "mit <!-- free"\n---\n',
    ],
)
def test_a_checkpoint_that_names_no_licence_has_an_unknown_one(tmp_path, text):
    if text is not None:
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert read_base(tmp_path, 64) == {"name": tmp_path.name, "licence": "unknown"}


def test_a_base_whose_name_looks_secret_is_not_named():
    secret = "hf_" + "a1B2" * 9
    text = model_card({}, {}, base={"name": secret, "licence": "mit"})
    assert secret not in text
    assert "derive from `another-checkpoint`, which names its licence as: mit." in text


def test_the_facts_of_one_folder_are_not_told_of_another(tmp_path):
    read_card_facts(tmp_path)["base"] = {"name": "small", "licence": "mit"}
    assert not read_card_facts(tmp_path)["base"]


def test_metrics_stand_before_and_after_with_their_intervals(card):
    assert "| nDCG@10 | 0.5123 (0.4500 to 0.5700) | 0.7000 (0.6500 to 0.7500) |" in card
    assert "| recall@1 | – | 0.4000 (0.3000 to 0.5000) |" in card


def test_counts_and_configuration_are_told(card):
    assert "| rows to train on | 679 |" in card
    block = re.search(r"```yaml\n(.*?)```", card, re.DOTALL).group(1)
    told = yaml.safe_load(block)
    assert told["training"]["learning_rate"] == 1e-4
    assert told["data"]["max_text_tokens"] == 8192
    assert told["training"]["bf16"] is True
    assert told["lora"] == {"task": "retrieval", "r": None}


def test_neither_secrets_nor_paths_are_told(card):
    for private in ("secret", "somebody", "/home", "C:", "~", "outputs/", "hub_token", "api_key"):
        assert private not in card
    for kept in ("jina-v4", "train.jsonl", "more.jsonl", "finetuned"):
        assert kept in card


def test_how_to_load_it_and_the_parity_stand_in_their_sections():
    text = model_card({}, {}, loading="Load it **so**.", parity=["| a |", "|---|"])
    assert "## How to load it\n\nLoad it **so**.\n" in text
    assert "exported from\n\n| a |\n|---|\n" in text


def test_a_card_gives_back_the_facts_it_was_made_of(card, tmp_path):
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    facts = read_card_facts(tmp_path)
    assert facts["data"] == DATA
    assert facts["metrics"]["nDCG@10"]["after"] == [0.7, 0.65, 0.75]
    assert model_card(**facts, loading="Load it **so**.") == card


def test_facts_can_hold_what_would_end_a_comment(tmp_path):
    data = {"--> rows <!-- | of": 1}
    (tmp_path / "README.md").write_text(model_card({}, data), encoding="utf-8")
    assert read_card_facts(tmp_path)["data"] == data
    assert "\\|" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "text",
    [None, "# My own card", "<!-- smartembed: {broken} -->", '<!-- smartembed: {"data": 3} -->'],
)
def test_a_folder_without_such_a_card_tells_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert not any(read_card_facts(tmp_path).values())


def test_only_a_trained_model_is_called_fine_tuned(card):
    assert "# Jina Embeddings V4, fine-tuned\n" in card
    assert "fine-tuned" not in model_card({}, {})


def test_the_facts_are_plain_json(card):
    comment = re.search(r"<!-- smartembed: (.*) -->\n$", card).group(1)
    assert json.loads(comment)["configuration"]["lora"]["task"] == "retrieval"
