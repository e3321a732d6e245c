"""Settings come from three layers; a name that is no setting is refused with the nearest one."""

import pytest

from jina.training.config_sources import LOCAL_PATH_SETTINGS, SettingSources
from jina.training.yaml_loading import ConfigError

KNOWN = {
    "model": ["base_model_path"],
    "data": ["train", "image_base_dir"],
    "loss": ["temperature"],
    "training": ["learning_rate", "output_dir", "seed", "hub_token"],
}


@pytest.fixture
def sources():
    return SettingSources(KNOWN)


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="config.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_a_setting_knows_its_value_line_and_file(sources, write):
    path = write("loss:\n  # lower is harder\n  temperature: 1e-2\n")
    sources.read_project_file(path)
    setting = sources.settings["loss.temperature"]
    assert (setting.value, setting.where, setting.origin) == (0.01, f"{path}:3", "config.yaml")
    assert sources.problems == []


def test_later_layers_replace_earlier_ones_and_leave_the_rest(sources, write):
    sources.read_project_file(write("training:\n  output_dir: a\n  seed: 1\n"))
    sources.read_local_paths(write("output_dir: b\n", "local_paths.yaml"))
    assert sources.settings["training.output_dir"].value == "b"
    sources.read_overrides(["training.output_dir=c"])
    assert sources.settings["training.output_dir"].value == "c"
    assert sources.settings["training.seed"].value == 1


@pytest.mark.parametrize(("key", "setting"), LOCAL_PATH_SETTINGS.items())
def test_each_local_path_sets_its_setting(sources, write, key, setting):
    sources.read_local_paths(write(f"{key}: /some/where\n"))
    assert sources.settings[setting].value == "/some/where"


def test_a_missing_local_file_is_no_problem(sources, tmp_path):
    sources.read_local_paths(tmp_path / "local_paths.yaml")
    assert (sources.settings, sources.problems) == ({}, [])


def test_a_missing_project_file_is_one(sources, tmp_path):
    with pytest.raises(ConfigError, match=r"nope.yaml: can't be read; got No such file"):
        sources.read_project_file(tmp_path / "nope.yaml")


def test_a_folder_in_place_of_a_file_is_refused(sources, tmp_path):
    with pytest.raises(ConfigError, match="can't be read; got Is a directory"):
        sources.read_project_file(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(sources, tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"loss: \xe9")
    with pytest.raises(ConfigError, match="bytes that are not UTF-8"):
        sources.read_project_file(path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", "5", "true"])
def test_a_file_that_is_no_mapping_is_refused(sources, write, text):
    with pytest.raises(ConfigError, match="config.yaml: not a mapping"):
        sources.read_project_file(write(text))


@pytest.mark.parametrize("text", ["", "# all commented out\n", "loss:\ntraining:\n"])
def test_empty_files_and_sections_set_nothing(sources, write, text):
    sources.read_project_file(write(text))
    assert (sources.settings, sources.problems) == ({}, [])


@pytest.mark.parametrize("content", ["5", "[a, b]", "text", "true"])
def test_a_section_that_is_no_mapping_is_refused(sources, write, content):
    sources.read_project_file(write(f"loss: {content}\n"))
    assert "config.yaml:1: loss: not a group of settings" in sources.problems[0]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "training:\n  learning_rat: 1",
            "training.learning_rat: unknown key; got 1; did you mean learning_rate?",
        ),
        ("training:\n  Learning_Rate: 1", "did you mean learning_rate?"),
        (
            "training:\n  temperature: 1",
            "training.temperature: unknown key; got 1; temperature belongs to loss:",
        ),
        ("training:\n  temperatur: 1", "did you mean temperature in loss:?"),
        ("loss:\n  xyzzy: 1", "the names are temperature"),
        (
            "trainin:\n  seed: 1",
            "trainin: unknown section; got a group of settings; did you mean training?",
        ),
        ("Loss:\n  temperature: 1", "did you mean loss?"),
        ("temperature: 1", "temperature belongs to loss:"),
        ("temprature: 1", "did you mean temperature in loss:?"),
        ("xyzzy: 1", "the names are model, data, loss, training"),
        ("training:\n  <<: 1", "training.<<: unknown key"),
        ("training:\n  5: 1", "training.5: unknown key"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(sources, write, text, advice):
    sources.read_project_file(write(text))
    (problem,) = sources.problems
    assert advice in problem
    assert sources.settings == {}


@pytest.mark.parametrize("key", LOCAL_PATH_SETTINGS)
def test_a_misspelt_local_path_names_the_right_one(sources, write, key):
    sources.read_local_paths(write(f"{key[:-1]}: /x\n", "local_paths.yaml"))
    assert f"local_paths.yaml:1: {key[:-1]}: unknown key" in sources.problems[0]
    assert f"did you mean {key}?" in sources.problems[0]


def test_a_misspelt_credential_is_not_shown(sources, write):
    sources.read_project_file(write("training:\n  hub_tokn: canary\nwandb:\n  key: canary\n"))
    sources.read_overrides(["training.hub_tken=canary", "hub_token=canary"])
    assert len(sources.problems) == 4
    assert "canary" not in "\n".join(sources.problems)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=1e-5", 1e-5),
        ("training.learning_rate= 3", 3),
        ("training.learning_rate=", None),
        ("training.output_dir=a=b", "a=b"),
        ("training.output_dir='1'", "1"),
        ("data.train=[a.jsonl, b.jsonl]", ["a.jsonl", "b.jsonl"]),
        ("data.train=no", "no"),
        (" loss.temperature =0.5", 0.5),
    ],
)
def test_an_override_is_read_like_a_line_of_the_file(sources, override, value):
    sources.read_overrides([override])
    (setting,) = sources.settings.values()
    assert (setting.value, setting.origin) == (value, "--set")
    assert type(setting.value) is type(value)


def test_of_two_overrides_the_last_one_counts(sources):
    sources.read_overrides(["training.seed=1", "training.seed=2"])
    assert sources.settings["training.seed"].value == 2


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.seed", "--set: training.seed: not section.key=value"),
        ("seed=1", "--set: seed: not section.key=value; got 1; write --set training.seed=value"),
        ("xyzzy=1", "write --set section.key=value"),
        ("=1", "not section.key=value"),
        (".seed=1", "not section.key=value"),
        ("training.=1", "not section.key=value"),
        ("", "not section.key=value"),
        ("training.sed=1", "--set: training.sed: unknown key; got 1; did you mean seed?"),
        ("trainig.seed=1", "--set: trainig: unknown section; got 1; did you mean training?"),
        ("training.seed=[1", "--set training.seed:1: not YAML"),
        ("training.seed=!!int 1", "--set training.seed:1: not YAML"),
        ("training.seed={a: 1, a: 2}", "--set training.seed:1: a: given twice"),
        (
            "loss.temperature.x=1",
            "loss.temperature.x: unknown key; got 1; did you mean temperature?",
        ),
    ],
)
def test_a_malformed_override_is_a_problem(sources, override, problem):
    sources.read_overrides([override, "loss.temperature=1"])
    assert len(sources.problems) == 1
    assert problem in sources.problems[0]
    assert sources.settings["loss.temperature"].value == 1
