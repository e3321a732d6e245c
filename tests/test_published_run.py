"""One run of train.py, and all that others see of it: card, tracker, hub, log; and what they don't.

Six secrets are planted around the run, and one word that may be seen, by which the search for them
is known to find things.
"""

import io
import json
import logging
import shutil
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from jina.export.model_card import read_card_facts
from jina.models.checkpoint import Checkpoint

COLOURS = ["red", "green", "blue", "black", "orange", "purple", "cyan", "yellow"]
SECRETS = {
    "environment": "canaryenvironment0000",
    "yaml": "canaryyaml0000",
    "url": "canaryurl0000",
    "token file": "canarytokenfile0000",
    "tracker key": "canarytrackerkey0000",
    "hub token": "hf_canaryhubtoken0000",
}
PUBLIC = "wordthatmaybeseen"


class FakeHub:
    """Stands in for `HfApi`, and keeps what it is asked for."""

    def __init__(self, folder):
        self.folder, self.tokens, self.asked = folder, [], []

    def __call__(self, token):
        self.tokens.append(token)
        return self

    def create_repo(self, repo, **settings):
        self.asked.append(("create_repo", repo, settings))

    def create_branch(self, repo, **settings):
        self.asked.append(("create_branch", repo, settings))

    def upload_folder(self, *, folder_path, allow_patterns, **settings):
        there = [str(f.relative_to(folder_path)) for f in folder_path.rglob("*") if f.is_file()]
        for name in filter_repo_objects(there, allow_patterns=allow_patterns):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes((folder_path / name).read_bytes())
        self.asked.append(("upload_folder", settings))


def write_inputs(folder, tiny_folder):
    """Write eight rows, their pictures, the configuration and the token file."""
    rows = []
    for colour in COLOURS:
        Image.new("RGB", (56, 84), colour).save(folder / f"{colour}.png")
        rows.append({"query_image": f"{colour}.png", "positive": f"a {colour} square"})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": {"base_model_path": str(tiny_folder)},
        "data": {name: str(folder / "train.jsonl") for name in ("train", "eval")},
        "training": {
            "output_dir": str(folder / "written/out"),
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "learning_rate": 1e-3,
            "max_steps": 2,
            "use_cpu": True,
            "run_name": PUBLIC,
            "push_to_hub": True,
            "hub_model_id": "me/model",
            "hub_private_repo": True,
            "hub_revision": "tuned",
        },
    }
    text = f"# password: {SECRETS['yaml']}\n{yaml.safe_dump(settings)}"
    (folder / "config.yaml").write_text(text)
    (folder / "token").write_text(SECRETS["token file"])


def plant(monkeypatch, folder):
    """Put the secrets where users have them."""
    monkeypatch.setenv("SMARTEMBED_TEST_SECRET", SECRETS["environment"])
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{SECRETS['url']}@proxy.invalid:8080")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://me:{SECRETS['url']}@mlflow.invalid")
    monkeypatch.setenv("HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setenv("WANDB_API_KEY", SECRETS["tracker key"])
    monkeypatch.setenv("HF_TOKEN", SECRETS["hub token"])


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_folder):
    """Return a function that starts train.py among the secrets: exit code and all it said."""
    folder = tmp_path_factory.mktemp("published")
    write_inputs(folder, tiny_folder)
    hub = FakeHub(folder / "written/hub")
    with pytest.MonkeyPatch.context() as monkeypatch:
        plant(monkeypatch, folder)
        monkeypatch.setattr("jina.training.hub.HfApi", hub)

        def run(*words):
            said = io.StringIO()
            handler = logging.StreamHandler(said)
            root, level = logging.getLogger(), logging.getLogger().level
            root.addHandler(handler)
            root.setLevel(logging.DEBUG)  # of libraries, too
            try:
                with redirect_stdout(said), redirect_stderr(said):
                    code = train.main(["--config", str(folder / "config.yaml"), *words])
            finally:
                root.removeHandler(handler)
                root.setLevel(level)
            return code, said.getvalue()

        run.folder, run.hub = folder, hub
        yield run


@pytest.fixture(scope="module")
def published(start):
    """The run, once."""
    code, log = start()
    assert code == 0, log
    written = start.folder / "written"
    return SimpleNamespace(out=written / "out", written=written, log=log, hub=start.hub)


@pytest.fixture(scope="module")
def events(published):
    """What tensorboard reads of the run."""
    (folder,) = (published.out / "runs").iterdir()
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    return read.Reload()


def contents(file):
    """Return the bytes of a file, and those that are packed in it."""
    if not zipfile.is_zipfile(file):
        return file.read_bytes()
    with zipfile.ZipFile(file) as packed:
        return file.read_bytes() + b"".join(map(packed.read, packed.namelist()))


def places_of(word, published):
    """Return where a word is seen: names of files, and `log`."""
    files = [file for file in published.written.rglob("*") if file.is_file()]
    seen = [file.name for file in files if word.encode() in contents(file) or word in file.name]
    return seen + ["log"] * (word in published.log)


# --- secrets -------------------------------------------------------------------------------------


CHECKPOINT_FILES = {"manifest.json", "state.json", "trainer_state.json", "random.safetensors"}
OTHER_FILES = {".lock", "metrics.json", "config.yaml", "facts.json", "report.html", "README.md"}


def test_the_search_goes_through_checkpoints_notes_of_the_run_and_hidden_files(published):
    names = {file.name for file in published.written.rglob("*") if file.is_file()}
    assert names >= CHECKPOINT_FILES | OTHER_FILES
    assert any(name.startswith("events.out.tfevents") for name in names)


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_seen_nowhere(published, kind):
    assert places_of(SECRETS[kind], published) == []


def test_control_a_word_of_the_configuration_is_seen_in_every_kind_of_place(published):
    seen = places_of(PUBLIC, published)
    assert {"log", "README.md", "config.yaml", "facts.json", "report.html"} <= set(seen)
    assert any(name.startswith("events.out.tfevents") for name in seen)
    assert seen.count("README.md") == 2  # the model's and the hub's


def test_control_a_secret_is_seen_once_it_is_packed_into_a_checkpoint(published):
    file = published.out / "checkpoint-2/leak.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("data", SECRETS["hub token"] * 50)
    try:
        assert places_of(SECRETS["hub token"], published) == ["leak.pt"]
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "setting",
    [
        "training.hub_token={yaml}",
        "data.image_base_dir=https://me:{url}@images.invalid",
        "training.run_name={hub}",
    ],
)
def test_a_secret_among_the_settings_is_refused_and_not_repeated(start, setting):
    given = {name: SECRETS[key] for name, key in (("yaml", "yaml"), ("url", "url"))}
    code, log = start("--set", setting.format(**given, hub=SECRETS["hub token"]))
    assert code == 2
    assert "a secret does not belong here; got a hidden value" in log
    assert not [kind for kind, secret in SECRETS.items() if secret in log]


# --- the card ------------------------------------------------------------------------------------


def test_the_saved_model_has_a_card_with_counts_settings_and_how_to_load_it(published):
    card = (published.out / "README.md").read_text(encoding="utf-8")
    assert "| train: rows | 8 |" in card
    assert "| train: rows of image → text | 8 |" in card
    assert 'encode_text(["a red bicycle"], task="retrieval"' in card
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert settings["training"]["max_steps"] == 2
    assert settings["data"]["train"] == "train.jsonl"


def test_the_card_tells_what_was_measured_before_and_after(published):
    told = read_card_facts(published.out)["metrics"]
    for when in ("before", "after"):
        metrics = json.loads((published.out / "eval" / when / "metrics.json").read_text())
        for result in metrics["results"]:
            setup = f"{result['direction']}, {result['vectors']}-{result['size']}"
            figure = result["metrics"]["ndcg@5"]
            assert told[f"{setup}, ndcg@5"][when] == list(figure.values())
    assert told["image→text, single-128, ndcg@5"]["before"] != [0, 0, 0]


def test_the_hub_can_read_the_card(published):
    data = ModelCard((published.out / "README.md").read_text(encoding="utf-8")).data
    assert (data.base_model, data.license) == (None, "unknown")  # the base is a tiny one
    assert "image→text, multi-32, ndcg@5" in [result.metric_type for result in data.eval_results]


def test_without_held_out_rows_an_earlier_evaluation_is_not_told(start, published):
    other = published.written.parent / "other"
    shutil.copytree(published.out / "eval", other / "eval")
    settings = ("data.eval=null", "training.push_to_hub=false", f"training.output_dir={other}")
    code, log = start(*(word for setting in settings for word in ("--set", setting)))
    assert code == 0, log
    assert (other / "eval/after/metrics.json").is_file()
    facts = read_card_facts(other)
    assert facts["metrics"] == {}
    assert not [name for name in facts["data"] if name.startswith("eval")]


# --- the tracker ---------------------------------------------------------------------------------


def test_tensorboard_gets_the_parts_of_the_loss_the_matryoshka_sizes_and_the_evaluation(events):
    names = set(events.Tags()["scalars"])
    losses = ("contrastive_loss", "single_loss", "multi_loss", "kl_loss")
    sizes = [f"single_loss_{size}" for size in (16, 32, 64, 128)]
    others = ("learning_rate", "grad_norm", "mean_cosine", "effective_rank", "temperature")
    assert {f"train/{name}" for name in (*losses, *sizes, *others)} <= names
    assert {"eval/loss", "eval/ndcg@5"} <= names
    assert [event.step for event in events.Scalars("train/contrastive_loss")] == [1, 2]


def test_tensorboard_gets_the_settings_and_the_digests_of_the_rows(events):
    (text,) = events.Tensors("args/text_summary")
    told = json.loads(text.tensor_proto.string_val[0])
    assert told["training.learning_rate"] == 1e-3
    assert told["lora.tasks"] == ["retrieval"]
    assert told["data.train"] == "train.jsonl"
    assert told["data.train.rows"] == 8
    assert len(told["data.train.digest"]) == 16


def test_no_path_is_tracked_nor_on_the_card_nor_in_a_checkpoint(published, tmp_path_factory):
    paths = [str(tmp_path_factory.getbasetemp()), str(Path.cwd()), str(Path.home()) + "/"]
    for path in paths:
        seen = places_of(path, published)
        assert "README.md" not in seen
        assert not any("tfevents" in name for name in seen)
        assert not CHECKPOINT_FILES & {*seen}
    assert "log" in places_of(paths[0], published)  # the search finds what is there


# --- the hub -------------------------------------------------------------------------------------


def test_the_finished_model_is_pushed_by_the_arguments_of_transformers(published):
    made, branched, pushed = published.hub.asked[:3]
    assert made == ("create_repo", "me/model", {"private": True, "exist_ok": True})
    assert branched == ("create_branch", "me/model", {"branch": "tuned", "exist_ok": True})
    assert pushed[0] == "upload_folder"
    assert (pushed[1]["repo_id"], pushed[1]["revision"]) == ("me/model", "tuned")
    assert set(published.hub.tokens) == {SECRETS["hub token"]}
    assert "Pushed to me/model." in published.log


def test_what_is_pushed_is_the_whole_model_and_nothing_of_the_run(published, tiny_folder):
    there = {str(f.relative_to(published.hub.folder)) for f in published.hub.folder.rglob("*.*")}
    base = {str(f.relative_to(tiny_folder)) for f in tiny_folder.rglob("*.*")}
    assert there == base | {"README.md"}
    assert Checkpoint.open(published.hub.folder)
    assert (published.out / "run/report.html").is_file()  # shows rows, and stays here
