"""Which adapters of the model are trained, and through which one it computes."""

from typing import Any

from torch import nn

from jina.models.adapters import (
    AdapterSettings,
    activate_adapter,
    adapter_parameters,
    replace_adapter,
    set_dropout,
    share_adapter,
)


class AdapterTraining:
    """The adapter side of the model, which supplies the layers they sit on."""

    config: Any
    adapter_settings: dict[str, AdapterSettings]
    trained_tasks: tuple[str, ...]
    _task: str | None
    _active_task: str | None

    @property
    def task(self) -> str | None:
        """Task used by `encode_*` when the call names none."""
        return self._task

    @task.setter
    def task(self, task: str) -> None:
        """Compute through this adapter from here on."""
        self._task = self._known_task(task)

    def train_adapters(
        self,
        *tasks: str,
        fresh: bool = False,
        shared: bool = False,
        rank: int | None = None,
        alpha: float | None = None,
        dropout: float | None = None,
    ) -> None:
        """Make adapters trainable; everything else stays frozen.

        Args:
            tasks: the adapters.
            fresh: start from new adapters instead of the checkpoint's.
            shared: train a single new adapter under the names of all tasks there are, as phase 1 of
                Jina Embeddings V4 (arXiv 2506.18902); saved, each task has a copy of it.
            rank: rank of fresh adapters; the checkpoint's if `None`.
            alpha: alpha of fresh adapters; the checkpoint's scaling if `None`.
            dropout: the checkpoint's if `None`.

        Raises:
            ValueError: an unknown task, a value out of range, or a shape for adapters not fresh.
        """
        for task in tasks or (None,):
            self._known_task(task)
        trained = tuple(self.config.task_names) if shared else tuple(dict.fromkeys(tasks))
        if self.trained_tasks not in ((), trained):
            raise ValueError(
                f"task: this model trains {', '.join(self.trained_tasks)} already; "
                f"got {', '.join(trained)}; save it and load it again"
            )
        fresh = fresh or shared
        if not fresh and (rank is not None or alpha is not None):
            raise ValueError(
                f"rank, alpha: only a fresh adapter can be given a shape; got {rank}, {alpha}; "
                "pass fresh=True or leave them out"
            )
        before = self.adapter_settings[trained[0]]
        rank = before.rank if rank is None else rank
        settings = AdapterSettings(
            rank=rank,
            alpha=before.scaling * rank if alpha is None else alpha,
            dropout=before.dropout if dropout is None else dropout,
        )
        for task in trained:
            if fresh:
                replace_adapter(self, task, settings)
            set_dropout(self, task, settings.dropout)
            self.adapter_settings[task] = settings
        if shared:
            share_adapter(self, trained)
        self.trained_tasks, self._active_task = trained, None
        self.train(self.training)
        self.activate(tasks[0])

    def train(self, mode: bool = True) -> Any:
        """Switch dropout and checkpointing of the decoder; the frozen vision tower has no use."""
        super().train(mode)
        self.model.visual.eval()
        return self

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained adapters' parameters under official names; empty for inference."""
        parameters: dict[str, nn.Parameter] = {}
        for task in self.trained_tasks:
            parameters |= adapter_parameters(self, task)
        return parameters

    def activate(self, task: str) -> None:
        """Route the model through `task`'s adapter.

        Not between a forward and its backward pass: recomputation would take the other adapter.
        Trained adapters keep taking gradients, active or not: an optimizer knows all of them.
        """
        if task != self._active_task:
            activate_adapter(self, task)
            for parameter in self.trained_parameters().values():
                parameter.requires_grad_(True)
            self._active_task = task

    def _known_task(self, task: str | None) -> str:
        if task not in self.config.task_names:
            raise ValueError(
                f"task: unknown or not set; got {task!r}; pass task= or set model.task to one of "
                f"{', '.join(self.config.task_names)}"
            )
        return task
