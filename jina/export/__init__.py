"""A checkpoint for other programs: export formats, parity reports, model cards, MTEB."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jina.export.mteb_encoder import JinaMtebModel


def mteb_model(folder: str | Path, **settings: Any) -> "JinaMtebModel":
    """Return a local checkpoint as a model that mteb 2 evaluates; see `JinaMtebModel`.

    mteb is imported here, so that nothing else needs it.
    """
    from jina.export.mteb_encoder import JinaMtebModel

    return JinaMtebModel(folder, **settings)
