"""What a run with held-out rows leaves for its report: two evaluations, settings, log.

base model ─ measure_before ─► eval/before, a table ─┐
trained model ─ finish ─► eval/after ────────────────┴─ paired differences ─► a table, the report
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
from jina.retrieval.evaluation_report import report_lines
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
from jina.training.run_inputs import data_policy
from jina.training.run_settings import resolved_yaml
from jina.training.training_config import JinaTrainingConfig

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
            both=config.evaluation.direction == "both",
            max_text_tokens=config.data.max_text_tokens,
            tokens_per_batch=config.training.tokens_per_micro_batch,
        )

    @property
    def is_begun(self) -> bool:
        """Whether the base model has been measured, by the run that is resumed."""
        return (self.folder / BEFORE).is_dir()  # there only when it is complete

    def measure_before(self, model: JinaEmbeddingsV4Model) -> list[str]:
        """Measure the base model, in place of what an earlier run left, and return a table of it.

        Raises:
            EvaluationError: there is nothing to measure.
            EmbeddingError: an image has turned bad.
            RankingError: a score isn't finite.
        """
        if Processes.current().is_first:
            for name in (BEFORE, AFTER, RUN):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        return self._measure(model, BEFORE, None)

    def finish(
        self, model: JinaEmbeddingsV4Model, state: TrainerState, startup: dict[str, Any]
    ) -> None:
        """Measure the trained model, show what changed and write the report.

        The model is saved by now: what fails here is said and ends nothing.

        Args:
            model: the trained one.
            state: with all that was logged.
            startup: blocks of the start-up report.
        """
        try:
            comparison = Comparison.read(self.folder / BEFORE)
            table = self._measure(model, AFTER, comparison)
            if Processes.current().is_first:
                logger.info("\n%s", "\n".join(table))
                write_run_record(self, state, startup)
                if "multi" in self.settings.vectors:
                    write_matches(model, self.folder, self.dataset)
                page = write_report(self.folder, dataset=self.dataset)
                logger.info("Report: %s", page)
        except FAILURES as error:
            logger.error("The model is saved, but its report isn't complete: %s", error)

    def _measure(
        self, model: JinaEmbeddingsV4Model, name: Path, comparison: Comparison | None
    ) -> list[str]:
        plan, left_out = plan_evaluation(self.dataset, self.settings)
        about = {
            "smartembed": jina.__version__,
            "data": list(map(str, self.dataset.files)),
            "settings": asdict(self.settings),
        }
        results, problems = evaluate_to_folder(
            model,
            self.dataset,
            plan,
            self.settings,
            self.folder / name,
            about=about,
            left_out=left_out,
            comparison=comparison,
        )
        heading = f"Held-out rows, {name.name} training"
        return [heading, *report_lines(results, problems, comparison)]


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
