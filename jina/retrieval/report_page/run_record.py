"""What a training run leaves for its report, and how it is read back.

run/config.yaml          every setting, as it was resolved
run/facts.json           what the start-up report said, and where the held-out rows are
run/trainer_state.json   every logged step and evaluation
run/token_matches.json   which patches the tokens of some texts matched, where vectors are multi
eval/before, eval/after  what `python -m jina evaluate` writes
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jina.data.multimodal_dataset import DataError, DataPolicy, MultimodalDataset

RUN = Path("run")
CONFIG_FILE = RUN / "config.yaml"
FACTS_FILE = RUN / "facts.json"
STATE_FILE = RUN / "trainer_state.json"
MATCHES_FILE = RUN / "token_matches.json"
REPORT_FILE = RUN / "report.html"
BEFORE, AFTER = Path("eval/before"), Path("eval/after")

Settings = dict[str, Any]


class ReportError(ValueError):
    """A run that nothing can be reported of."""


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        folder: of the run.
        config: its settings, as YAML.
        facts: `startup`, blocks of labels and values, and `rows`, see `open_rows`.
        history: what was logged, in order.
    """

    folder: Path
    config: str
    facts: dict[str, Any]
    history: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Read what training wrote.

        Raises:
            ReportError: with all that is missing or damaged.
        """
        read, problems = {}, []
        for name, file in (("config", CONFIG_FILE), ("facts", FACTS_FILE), ("state", STATE_FILE)):
            try:
                text = (folder / file).read_text(encoding="utf-8")
                read[name] = text if name == "config" else dict(json.loads(text))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                problems.append(f"{folder / file}: can't be read; got {error}")
        for name in (BEFORE, AFTER):
            if not (folder / name / "metrics.json").is_file():
                problems.append(f"{folder / name}: is no complete evaluation; got no metrics.json")
        if problems:
            advice = "name the training.output_dir of a finished run that had data.eval"
            raise ReportError("\n".join(f"{problem}; {advice}" for problem in problems))
        history = [entry for entry in read["state"].get("log_history", []) if "step" in entry]
        return cls(folder, read["config"], read["facts"], history)


def open_rows(rows: Settings) -> MultimodalDataset:
    """Open the held-out rows as the run did.

    Args:
        rows: `files`, `image_base_dir` and `tasks`, and `policy`, the fields of a `DataPolicy`.

    Raises:
        DataError: they have gone, or changed for the worse.
    """
    try:
        policy = dict(rows["policy"])
        policy["cache_folder"] = Path(policy["cache_folder"])
        return MultimodalDataset(
            rows["files"],
            image_base_dir=rows["image_base_dir"],
            tasks=rows["tasks"],
            policy=DataPolicy(**policy),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{FACTS_FILE}: doesn't name the rows; got {error!r}; train anew"
        ) from error


def describe_rows(dataset: MultimodalDataset, tasks: list[str], policy: DataPolicy) -> Settings:
    """Return what `open_rows` reads."""
    base = dataset.image_base_dir
    return {
        "files": [str(file.absolute()) for file in dataset.files],
        "image_base_dir": None if base is None else str(base.absolute()),
        "tasks": tasks,
        "policy": vars(policy) | {"cache_folder": str(Path(policy.cache_folder).absolute())},
    }
