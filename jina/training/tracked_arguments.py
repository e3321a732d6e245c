"""transformers' arguments, of which trackers are told only what was chosen for them.

transformers' callbacks send all that `TrainingArguments.to_dict` returns, which has every path of
the run. Here it returns what `jina.training.tracking` made, and nothing until then.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from transformers import TrainingArguments
from transformers.integrations import is_tensorboard_available


class TrackedArguments(TrainingArguments):
    """transformers' arguments; `tracked` is what trackers get of them, empty until it is set."""

    # no annotation: it must not become one of the arguments
    tracked = MappingProxyType({})

    def track(self, settings: Mapping[str, Any]) -> None:
        """Choose what trackers are told."""
        self.tracked = settings

    def to_dict(self) -> dict[str, Any]:
        """Return what trackers are told; transformers asks on their behalf alone."""
        return dict(self.tracked)


def chosen_trackers(report_to: str | list[str] | None) -> list[str]:
    """Return the names of trackers; `auto` is tensorboard where it is installed."""
    if report_to == "auto":
        return ["tensorboard"] if is_tensorboard_available() else []
    named = [report_to] if isinstance(report_to, str) else report_to or []
    return [name for name in named if name != "none"]
