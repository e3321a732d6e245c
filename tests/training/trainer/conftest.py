"""Trainers of two steps on eight rows."""

import pytest

from jina.data.data_collator import ContrastiveDataCollator
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.training.config_sections import DataSection, LossSection, TrainingSection
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.training_config import JinaTrainingConfig

QUIET = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "warmup_steps": 0.0}
QUIET |= {"eval_on_start": False, "report_to": "none"}


@pytest.fixture
def make_trainer(tiny_folder, tmp_path, rows, write_rows):
    """Return a function that builds a trainer on the eight rows, or on the rows given."""

    def make(
        *,
        given=None,
        loss=None,
        dropout=0.0,
        dtype="auto",
        bf16=False,
        one_source_per_batch=False,
        tasks=("retrieval",),
        shared=False,
        **training,
    ):
        values = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": 2}
        section = TrainingSection(
            **{**QUIET, "output_dir": str(tmp_path / "out"), **values, **training}
        )
        model = JinaEmbeddingsV4Model.from_pretrained(tiny_folder, dtype=dtype, device="cpu")
        model.train_adapters(*tasks, shared=shared, dropout=dropout)
        file = write_rows(given or rows, name=f"rows_{bool(given)}.jsonl")
        dataset = MultimodalDataset(file, tasks=tasks)
        return JinaEmbeddingTrainer(
            model,
            JinaTrainingConfig(training=section).training_arguments(bf16=bf16),
            loss=loss or LossSection(),
            data=DataSection(train=str(file), one_source_per_batch=one_source_per_batch),
            train_dataset=dataset,
            eval_dataset=dataset,
            micro_batches=section,
            data_collator=ContrastiveDataCollator(model.processor, max_text_tokens=64),
        )

    return make
