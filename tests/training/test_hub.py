"""Pushing to a hub: when it is asked for, and what is said when it fails."""

import pytest

from jina.training import hub as hub_module
from jina.training.config_sections import TrainingSection
from jina.training.hub import HubError, HubPush, model_files
from jina.training.training_config import ConfigError, JinaTrainingConfig

TOKEN = "hf_verysecrettoken"  # noqa: S105 - made up
ASKED = TrainingSection(push_to_hub=True, hub_model_id="me/model")


def push_of(section):
    return HubPush.of(JinaTrainingConfig(training=section))


@pytest.fixture
def refusing_hub(monkeypatch):
    """A hub that refuses everything, and tells secrets in doing so."""

    class Refusing:
        def __init__(self, token):
            self.token = token

        def refuse(self, *_, **__):
            raise OSError(f"403 for {self.token} at https://me:password@hub.invalid/api")

        create_repo = upload_folder = refuse

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_module, "HfApi", Refusing)


def test_nothing_is_pushed_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert push_of(TrainingSection()) is None
    assert push_of(ASKED).repo == "me/model"


def test_the_token_comes_from_the_environment_and_from_no_file(monkeypatch, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="pushing needs a token in the environment; got no HF_"):
        push_of(ASKED)


def test_a_token_is_not_part_of_what_is_printed(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert TOKEN not in repr(push_of(ASKED))


@pytest.mark.parametrize("step", ["claim", "upload"])
def test_a_refusal_is_told_without_token_and_password(refusing_hub, tmp_path, step):
    push = push_of(ASKED)
    with pytest.raises((ConfigError, HubError)) as refused:
        push.claim() if step == "claim" else push.upload(tmp_path, ["README.md"])
    assert isinstance(refused.value, ConfigError if step == "claim" else HubError)
    said = str(refused.value)
    assert "training.hub_model_id: me/model: the hub refuses; got OSError: 403" in said
    assert TOKEN not in said
    assert "password" not in said
    assert ("The model is saved" in said) is (step == "upload")


def test_a_mistake_of_ours_is_not_taken_for_a_refusal(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_module, "HfApi", lambda token: None)
    with pytest.raises(AttributeError):
        push_of(ASKED).claim()


def test_the_files_of_a_model_are_those_of_its_base_and_the_card(jina_model):
    files = model_files(jina_model.checkpoint, "README.md")
    assert {"README.md", "config.json", "adapters/adapter_model.safetensors"} <= set(files)
    assert not [name for name in files if "*" in name]
