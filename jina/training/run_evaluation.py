"""What a run with held-out rows leaves for its report: two evaluations, settings, log.

base model ─ measure_before ─► eval/before ─┐
trained model ─ measure_after ─► eval/after ┴─ paired difference ─► one line of the log
"""

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerState

import jina
from jina.data.image_loading import ImageError
from jina.data.multimodal_dataset import DataError, MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.comparison import Comparison
from jina.retrieval.evaluation_folder import evaluate_to_folder
from jina.retrieval.evaluation_plan import EvaluationError, EvaluationSettings, plan_evaluation
from jina.retrieval.item_embedding import EmbeddingError
from jina.retrieval.processes import Processes
from jina.retrieval.ranking import RankingError
from jina.retrieval.report import write_matches, write_report
from jina.retrieval.report_page.run_record import (
    AFTER,
    BEFORE,
    CONFIG_FILE,
    FACTS_FILE,
    RUN,
    STATE_FILE,
    ReportError,
    describe_rows,
)
from jina.retrieval.results import Result
from jina.training.run_inputs import data_policy
from jina.training.run_settings import resolved_yaml
from jina.training.training_config import JinaTrainingConfig

SHOWN = {"ranking": ("ndcg@5", "recall@10"), "correlation": ("spearman",)}

# What can go wrong once the model is saved.
FAILURES = (
    ReportError,
    EvaluationError,
    EmbeddingError,
    RankingError,
    ImageError,
    DataError,
    OSError,
)

logger = logging.getLogger("smartembed")


@dataclass(frozen=True)
class RunEvaluation:
    """Measures the held-out rows of a run.

    Attributes:
        config: of the run.
        dataset: the held-out rows.
        folder: `training.output_dir`.
    """

    config: JinaTrainingConfig
    dataset: MultimodalDataset
    folder: Path

    @property
    def settings(self) -> EvaluationSettings:
        """What is measured: all sizes of single vectors, and multi vectors if they are trained."""
        config = self.config
        return EvaluationSettings(
            vectors=("single", "multi") if config.loss.weights.multi else ("single",),
            max_text_tokens=config.data.max_text_tokens,
            tokens_per_batch=config.training.tokens_per_micro_batch,
        )

    @property
    def is_begun(self) -> bool:
        """Whether the base model has been measured, by the run that is resumed."""
        return (self.folder / BEFORE).is_dir()  # there only when it is complete

    def measure_before(self, model: JinaEmbeddingsV4Model) -> None:
        """Measure the base model, in place of what an earlier run left.

        Raises:
            EvaluationError: there is nothing to measure.
            EmbeddingError: an image has turned bad.
            RankingError: a score isn't finite.
        """
        if Processes.current().is_first:
            for name in (BEFORE, AFTER, RUN):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        self._measure(model, BEFORE, None)

    def finish(
        self, model: JinaEmbeddingsV4Model, state: TrainerState, startup: dict[str, Any]
    ) -> None:
        """Measure the trained model, say what changed and write the report.

        The model is saved by now: what fails here is said and ends nothing.

        Args:
            model: the trained one.
            state: with all that was logged.
            startup: blocks of the start-up report.
        """
        try:
            comparison = Comparison.read(self.folder / BEFORE)
            results = self._measure(model, AFTER, comparison)
            if Processes.current().is_first:
                for line in change_lines(results, comparison):
                    logger.info("%s", line)
                write_run_record(self, state, startup)
                if "multi" in self.settings.vectors:
                    write_matches(model, self.folder, self.dataset)
                page = write_report(self.folder, dataset=self.dataset)
                logger.info("Report: %s", page)
        except FAILURES as error:
            logger.error("The model is saved, but its report isn't complete: %s", error)

    def _measure(
        self, model: JinaEmbeddingsV4Model, name: Path, comparison: Comparison | None
    ) -> list[Result]:
        plan, left_out = plan_evaluation(self.dataset, self.settings)
        about = {
            "smartembed": jina.__version__,
            "data": list(map(str, self.dataset.files)),
            "settings": asdict(self.settings),
        }
        results, _ = evaluate_to_folder(
            model,
            self.dataset,
            plan,
            self.settings,
            self.folder / name,
            about=about,
            left_out=left_out,
            comparison=comparison,
        )
        return results


def change_lines(results: list[Result], comparison: Comparison) -> list[str]:
    """Return a line for each direction: whole vectors before and after, and the paired change."""
    largest = max(result.setup.size for result in results if result.setup.vectors == "single")
    lines: dict[tuple[str, str, bool], list[str]] = {}
    for result in results:
        is_whole = result.setup.vectors == "multi" or result.setup.size == largest
        if is_whole and comparison.knows(result) and len(result.measured):
            before = result.statistic_of(comparison.values[result.key])
            old = dict(zip(result.names, before(result.measured).tolist(), strict=True))
            new, change = result.means(), comparison.difference(result)
            for name in SHOWN[result.kind]:
                low, high = change[name].low, change[name].high
                lines.setdefault((result.task, result.name, result.is_reversed), []).append(
                    f"{result.setup.name} {name} {old[name]:.3f} → {new[name]:.3f} "
                    f"({change[name].value:+.3f} [{low:+.3f}, {high:+.3f}])"
                )
    return [f"held-out before → after  {key[1]}  {'  '.join(v)}" for key, v in lines.items()]


def write_run_record(run: RunEvaluation, state: TrainerState, startup: dict[str, Any]) -> None:
    """Write settings, facts and log, which `jina.retrieval.report_page.run_record` reads."""
    folder = run.folder
    (folder / RUN).mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(resolved_yaml(run.config), encoding="utf-8")
    rows = describe_rows(run.dataset, run.config.lora.tasks, data_policy(run.config))
    facts = {"smartembed": jina.__version__, "startup": startup, "rows": rows}
    text = json.dumps(facts, ensure_ascii=False, indent=1, default=str)
    (folder / FACTS_FILE).write_text(text, encoding="utf-8")
    state.save_to_json(str(folder / STATE_FILE))
