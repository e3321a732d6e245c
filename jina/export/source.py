"""What every export starts from: a checkpoint's files, configuration and processor, no weights."""

from pathlib import Path
from typing import NamedTuple

from jina.models.checkpoint import Checkpoint, CheckpointError
from jina.models.configuration_jina_embeddings_v4 import JinaEmbeddingsV4Config, read_config
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor


class Source(NamedTuple):
    """A checkpoint in the official layout, opened but not loaded."""

    checkpoint: Checkpoint
    config: JinaEmbeddingsV4Config
    processor: JinaEmbeddingsV4Processor

    @classmethod
    def open(cls, folder: Path) -> "Source":
        """Open a folder.

        Raises:
            CheckpointError: it isn't in the official layout.
        """
        checkpoint = Checkpoint.open(folder)
        try:
            config = read_config(checkpoint.path)
            processor = JinaEmbeddingsV4Processor.from_pretrained(checkpoint.path)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        return cls(checkpoint, config, processor)
