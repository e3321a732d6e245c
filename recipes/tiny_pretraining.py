"""One run of pretraining: model, heads, optimizers, and how far they have come.

    Batches ─ learn(step) ─► losses ─► gradients of every weight ─ Muon, AdamW ─► weights
                                                                └─ save, resume ─► state.safetensors

All that is random in a step is drawn from the seed and the step's number, so a run that was cut off
comes to the same end as one that wasn't.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from jina.models.contrastive_loss import ContrastiveLoss
from recipes.tiny_batches import Batches
from recipes.tiny_data import TinySet
from recipes.tiny_model import (
    SHAPE,
    base_parameters,
    embed,
    image_batch,
    new_checkpoint,
    text_batch,
    train_all,
)
from recipes.tiny_objective import (
    WEIGHTS,
    TowerHead,
    distance,
    pair_loss,
    sight_loss,
    token_vectors,
)
from recipes.tiny_targets import Targets

WARM_UP = 30  # steps of each stage
FALL = 0.3  # share of a stage's steps in which its learning rate falls
DECAY = 0.05
BEGINNING = "beginning.safetensors"
ADAM_SHARE = 0.4  # of the learning rate
TEXTS_ALONE, TEXTS_BESIDE = 384, 96  # texts of a step without and with pictures
# Little of the captions' own pairs: with more the teachers are forgotten, and with them all that no
# caption names.
TEXT_WEIGHT, PICTURE_WEIGHT, SIGHT_WEIGHT, PAIR_WEIGHT = 1.0, 2.0, 0.75, 0.025


@dataclass(frozen=True)
class Stage:
    """A stretch of training with a learning rate that rises and falls once.

    Attributes:
        steps: how many.
        rate: the highest learning rate.
        has_pictures: whether there are pictures, and not only texts.
        grown: how far views have grown when it begins, from 0 to 1.
        is_averaged: whether it ends half way between where it began and where it came to.
    """

    steps: int
    rate: float
    has_pictures: bool
    grown: float = 0.0
    is_averaged: bool = False

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: a line up, level, and a line down to nothing."""
        left = (self.steps - step) / max(1, round(self.steps * FALL))
        return self.rate * min(1, (step + 1) / WARM_UP, left)

    def growth_at(self, step: int) -> float:
        """Return how far views have grown at a step, from 0 to 1."""
        return self.grown + (1 - self.grown) * step / self.steps


class Pretraining:
    """Model, head and optimizers, and how far they have come."""

    def __init__(self, data: TinySet, folder: Path, stages: list[Stage], seed: int) -> None:
        self.data, self.folder, self.stages, self.seed = data, folder, stages, seed
        if not (folder / "start").exists():
            new_checkpoint(folder / "start", corpus(data), seed=seed)
        torch.manual_seed(seed)
        self.model = train_all(folder / "start")
        self.sizes = SHAPE.vectors["matryoshka_dims"]
        self.targets = Targets.of(data, self.sizes[-1])
        sight_size = self.targets.sights.shape[1]
        self.head = TowerHead(SHAPE.text["hidden_size"], sight_size)
        self.loss = ContrastiveLoss(WEIGHTS, self.sizes, symmetric=True)
        self.weights = base_parameters(self.model)
        self.start_tokens()
        self.trained = {**self.weights, **dict(self.head.named_parameters(prefix="head"))}
        self.optimizers = self.new_optimizers()
        self.step = 0

    def start_tokens(self) -> None:
        """Let the token vectors start from what the text teacher says of the texts they are in."""
        places = [*range(len(self.data.texts)), *(place for _, place in self.data.translations)]
        texts = [*self.data.texts, *(text for text, _ in self.data.translations)]
        tokenizer = self.model.processor.tokenizer
        encoded = tokenizer.encode_batch([f" {text}" for text in texts], add_special_tokens=False)
        tokens = self.model.model.language_model.embed_tokens.weight
        ids = [found.ids for found in encoded]
        with torch.no_grad():
            tokens.copy_(token_vectors(ids, self.targets.texts[places], len(tokens)))

    def new_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Muon for the matrices within the model and AdamW for all else.

        Muon (Jordan and others, 2024) gets further with few steps; its updates are scaled to the
        size of AdamW's, so that both follow one learning rate.
        """
        inner = {n for n, p in self.weights.items() if p.ndim == 2 and "embed_tokens" not in n}
        matrices = [self.trained[name] for name in sorted(inner)]
        others = [parameter for name, parameter in self.trained.items() if name not in inner]
        return [
            torch.optim.Muon(
                [{"params": matrices, "share": 1.0}],
                weight_decay=DECAY,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                [{"params": others, "share": ADAM_SHARE}],
                betas=(0.9, 0.98),
                weight_decay=0.0,
                fused=True,
            ),
        ]

    def plan(self) -> Iterator[tuple[Stage, int]]:
        """Yield the stage of each step from here on, and the step's number within it."""
        first = 0
        for stage in self.stages:
            for step in range(max(0, self.step - first), stage.steps):
                yield stage, step
            first += stage.steps

    def learn(self, stage: Stage, step: int, batches: Batches) -> dict[str, float]:
        """Make one step and return its losses."""
        if stage.is_averaged and step == 0:
            self.keep_beginning()
        generator = Generator().manual_seed(self.seed * 1_000_003 + self.step)
        with torch.autocast("cpu", torch.bfloat16):
            losses = (
                self.pair_losses(batches, generator, stage.growth_at(step))
                if stage.has_pictures
                else {"text": self.teach_texts(batches, TEXTS_ALONE, generator)}
            )
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = stage.rate_at(step) * group["share"]
            optimizer.step()
            optimizer.zero_grad()
        if stage.is_averaged and step == stage.steps - 1:
            self.go_half_way_back()
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def teach_texts(self, batches: Batches, count: int, generator: Generator) -> Tensor:
        """Return the loss of texts, some of them translations."""
        texts, places = batches.texts(count, generator)
        prompt = ("Query", "Passage")[torch.randint(2, (), generator=generator).item()]
        vectors = embed(self.model, text_batch(self.model, texts, prompt), multi=False).single
        return distance(vectors, self.targets.texts[places], self.sizes)

    def pair_losses(
        self, batches: Batches, generator: Generator, progress: float
    ) -> dict[str, Tensor]:
        """Return the losses of captions and views, and of some more texts."""
        places, captions, views = batches.pairs(generator, progress)
        prompt = ("Query", "Passage")[torch.randint(2, (), generator=generator).item()]
        batch, features = image_batch(self.model, views)
        images = embed(self.model, batch, multi=True)
        texts = embed(self.model, text_batch(self.model, captions, prompt), multi=True)
        english = [self.data.captions[place]["en"] for place in places]
        wanted = self.targets.captions[places]
        picture = distance(images.single, self.targets.pictures[places], self.sizes)
        sight = sight_loss(self.head, features, self.targets.sights[places])
        more = self.teach_texts(batches, TEXTS_BESIDE, generator)
        return {
            "pairs": PAIR_WEIGHT * pair_loss(self.loss, texts, images, english),
            "picture": PICTURE_WEIGHT * picture,
            "sight": SIGHT_WEIGHT * sight,
            "caption": TEXT_WEIGHT / 2 * distance(texts.single, wanted, self.sizes),
            "text": TEXT_WEIGHT / 2 * more,
        }

    def keep_beginning(self) -> None:
        """Write the weights as they are at the beginning of a stage."""
        weights = {name: weight.detach().contiguous() for name, weight in self.weights.items()}
        save_file(weights, self.folder / BEGINNING)

    def go_half_way_back(self) -> None:
        """Set the weights to the mean of what they are and were at the beginning of the stage.

        The mean generalizes better than either (Lookahead, Zhang and others, 2019).
        """
        for name, before in load_file(self.folder / BEGINNING).items():
            self.weights[name].data.lerp_(before, 0.5)

    def save(self) -> None:
        """Write everything that a later run needs to go on."""
        state = dict(self.trained)
        for name, parameter in self.trained.items():
            for optimizer in self.optimizers:
                for kind, value in optimizer.state.get(parameter, {}).items():
                    state[f"{name}|{kind}"] = value
        staged = self.folder / "state.new"
        save_file({k: v.detach().contiguous() for k, v in state.items()}, staged,
                  {"step": str(self.step)})  # fmt: skip
        staged.replace(self.folder / "state.safetensors")

    def resume(self) -> None:
        """Go on where an earlier run stopped, if there was one."""
        file = self.folder / "state.safetensors"
        if not file.exists():
            return
        state = load_file(file)
        for name, parameter in self.trained.items():
            parameter.data.copy_(state[name])
            kept = {k.split("|")[1]: v for k, v in state.items() if k.startswith(f"{name}|")}
            for optimizer in self.optimizers:
                if kept and any(parameter is p for p in optimizer.param_groups[0]["params"]):
                    optimizer.state[parameter] = kept
        self.step = int(state_step(file))


def state_step(file: Path) -> str:
    """Return the number of steps that a saved state has behind it."""
    with safe_open(file, "pt") as opened:
        return opened.metadata()["step"]


def corpus(data: TinySet) -> list[str]:
    """Return the texts that the tokenizer is trained on; English counts most."""
    captions = [f" {text}" for found in data.captions for text in [found["en"]] * 2]
    translations = [f" {text}" for text, _ in data.translations]
    return [*captions, *translations, *(f" {text}" for text in data.texts)]
