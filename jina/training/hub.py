"""Push a finished model, with transformers' own arguments: `push_to_hub`, `hub_model_id`, ….

    HubPush.of(config) ─ claim() before training ─► repository ─ upload() after saving ─► model

The network is used because the user asked, the token comes from the environment alone, and only
the model's own files go: neither step checkpoints nor evaluations, which show the user's rows.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from jina.models.checkpoint import ADAPTER_WEIGHTS, Checkpoint
from jina.training.training_config import ConfigError, JinaTrainingConfig
from jina.training.yaml_loading import describe_problem

logger = logging.getLogger("smartembed")

TOKEN = "HF_TOKEN"  # noqa: S105 - the name of the variable
# HTTPError of whichever HTTP library the hub's own is built on: also connections that fail
FAILURES = (OSError, HFValidationError, HfHubHTTPError.__bases__[0])


class HubError(RuntimeError):
    """A saved model that could not be pushed."""


@dataclass(frozen=True)
class HubPush:
    """Where a finished model is pushed.

    Attributes:
        repo: such as `me/my-model`.
        private: of a new repository; `None` leaves it to the hub's settings.
        revision: the branch; `None` for the main one.
        token: never shown.
    """

    repo: str
    private: bool | None
    revision: str | None
    token: str = field(repr=False)

    @classmethod
    def of(cls, config: JinaTrainingConfig) -> "HubPush | None":
        """Return where to push, `None` without `training.push_to_hub`.

        Raises:
            ConfigError: the environment has no token.
        """
        training, token = config.training, os.environ.get(TOKEN, "")
        if not training.push_to_hub:
            return None
        if not token:
            advice = f"export {TOKEN}, with a token that may write, or set push_to_hub: false"
            wrong = "pushing needs a token in the environment"
            raise ConfigError(
                [describe_problem("training.push_to_hub", wrong, got=f"no {TOKEN}", advice=advice)]
            )
        return cls(training.hub_model_id, training.hub_private_repo, training.hub_revision, token)

    def claim(self) -> None:
        """Make the repository, or find that one can write to it, before hours of training.

        Raises:
            ConfigError: the hub refuses.
        """
        with self._explained() as problems:
            api = HfApi(token=self.token)
            api.create_repo(self.repo, private=self.private, exist_ok=True)
            if self.revision is not None:
                api.create_branch(self.repo, branch=self.revision, exist_ok=True)
        if problems:
            raise ConfigError(problems)

    def upload(self, folder: Path, files: Sequence[str]) -> None:
        """Upload files of a saved model in one commit.

        Raises:
            HubError: the hub refuses; the model is saved.
        """
        with self._explained() as problems:
            HfApi(token=self.token).upload_folder(
                repo_id=self.repo,
                folder_path=folder,
                allow_patterns=list(files),
                revision=self.revision,
                commit_message="Fine-tuned with SmartEmbed",
            )
        if problems:
            revision = f" --revision {self.revision}" if self.revision else ""
            raise HubError(
                f"The model is saved, but not pushed: {problems[0]}; then run "
                f"python -m jina export --model {folder} --format official --output DIR && "
                f"hf upload {self.repo} DIR{revision}"
            )
        logger.info("Pushed to %s.", self.repo)

    @contextmanager
    def _explained(self) -> Iterator[list[str]]:
        """Yield a list that is given what the hub objects to, without the token or a password."""
        problems: list[str] = []
        try:
            yield problems
        except FAILURES as error:
            said = re.sub(r"://[^/\s@]*@", "://", str(error).replace(self.token, "…"))
            got = f"{type(error).__name__}: {' '.join(said.split())[:300]}"
            advice = f"check hub_model_id, hub_revision, {TOKEN} and the network"
            problems.append(
                describe_problem(
                    f"training.hub_model_id: {self.repo}", "the hub refuses", got=got, advice=advice
                )
            )


def model_files(base: Checkpoint, card: str) -> list[str]:
    """Return the names of the files of a model that was saved over a base checkpoint."""
    small = (str(file.relative_to(base.path)) for file in base.small_files())
    return sorted({*small, *(file.name for file in base.base_files), ADAPTER_WEIGHTS, card})
