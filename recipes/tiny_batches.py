"""Batches of the tiny Jina's set: captions with views, and texts, drawn anew for every step.

Things are drawn, then a picture of each: an emoji that seven artists drew isn't seen seven times as
often, and a batch has no thing twice.
"""

import re

import torch
from torch import Generator, Tensor

from recipes.tiny_augmentation import augmented_views, draw_shape
from recipes.tiny_data import TinySet

FLAG = re.compile("1f1[ef]")  # codes of countries' flags, which nobody finds by their looks
SIDED = re.compile(r"\b(left|right|arrow|clockwise|button|letter|sign|symbol|keycap|clock)\b")
OTHER_LANGUAGE = 0.25  # share of captions
TRANSLATED = 0.4  # share of texts


class Batches:
    """Draws batches.

    Args:
        data: what to draw from; what is held out never comes.
        size: pictures of a batch.
    """

    def __init__(self, data: TinySet, size: int) -> None:
        self.data, self.size = data, size
        held_out = set(data.held_out())
        self.things: dict[str, list[int]] = {}
        for place, key in enumerate(data.keys):
            if place not in held_out and not FLAG.match(key):
                self.things.setdefault(key, []).append(place)
        self.names = sorted(self.things)

    def pairs(self, generator: Generator, progress: float) -> tuple[list[int], list[str], Tensor]:
        """Return pictures, a caption of each in some language, and a view of each.

        Args:
            generator: of all that is random.
            progress: from 0 to 1, how far training is; views grow.
        """
        order = torch.randperm(len(self.names), generator=generator)[: self.size]
        groups = [self.things[self.names[thing]] for thing in order.tolist()]
        places = [group[self._below(len(group), generator)] for group in groups]
        captions = [self._caption(place, generator) for place in places]
        can_flip = torch.tensor(
            [not SIDED.search(self.data.captions[place]["en"]) for place in places]
        )
        pixels = torch.from_numpy(self.data.pixels[places])
        shape = draw_shape(progress, generator)
        views = augmented_views(pixels, shape, can_flip, generator)
        return places, captions, views

    def texts(self, count: int, generator: Generator) -> tuple[list[str], Tensor]:
        """Return texts and the places of the English ones they say the same as."""
        translated = round(count * TRANSLATED)
        chosen = torch.randint(len(self.data.texts), (count - translated,), generator=generator)
        others = torch.randint(len(self.data.translations), (translated,), generator=generator)
        pairs = [self.data.translations[place] for place in others.tolist()]
        texts = [self.data.texts[place] for place in chosen.tolist()] + [text for text, _ in pairs]
        places = torch.cat([chosen, torch.tensor([place for _, place in pairs], dtype=torch.long)])
        return [self._worded(text, generator) for text in texts], places

    def _caption(self, place: int, generator: Generator) -> str:
        captions = self.data.captions[place]
        if len(captions) > 1 and torch.rand((), generator=generator) < OTHER_LANGUAGE:
            languages = sorted(captions)
            return captions[languages[self._below(len(languages), generator)]]
        return self._worded(captions["en"], generator)

    def _worded(self, text: str, generator: Generator) -> str:
        """Write a short text as a sentence, or not: `a dog`, `Dog.`, `A dog.`"""
        if len(text) > 40 or not text.isascii():
            return text
        article = "an" if text[:1].lower() in "aeiou" else "a"
        small = text[:1].lower() + text[1:] if text[1:2].islower() else text
        forms = (text, text, f"{article.capitalize()} {small}.", f"{text[:1].upper()}{text[1:]}.",
                 f"{article} {small}")  # fmt: skip
        return forms[self._below(len(forms), generator)]

    def _below(self, limit: int, generator: Generator) -> int:
        return torch.randint(limit, (), generator=generator).item()
