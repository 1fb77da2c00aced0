"""Label texts from what models say of themselves."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whycam.models.packages import optional

_PLACEHOLDER = re.compile(r"LABEL_\d+")
_SYNSET = re.compile(r"n\d{8}")


def from_id2label(id2label: Mapping[Any, Any] | None) -> tuple[str, ...] | None:
    """The texts of a transformers configuration; unknown where they are placeholders such as `LABEL_0`."""
    return _from_pairs(tuple(id2label.items())) if id2label else None


@functools.lru_cache(maxsize=64)  # asked for each explanation of a model that was passed as an object
def _from_pairs(pairs: tuple[tuple[Any, Any], ...]) -> tuple[str, ...] | None:
    try:
        by_index = {int(index): str(text) for index, text in pairs}
    except (TypeError, ValueError):
        return None
    texts = [by_index.get(index) for index in range(len(by_index))]
    if not texts or None in texts or any(_PLACEHOLDER.fullmatch(text) for text in texts if text is not None):
        return None
    return unique([text] for text in texts if text is not None)


def from_timm(config: Mapping[str, Any], classes: int | None = None) -> tuple[str, ...] | None:
    """The texts that go with a timm `pretrained_cfg`: its own, or ImageNet's of that many classes.

    Unknown where `classes`, what the network really has, is another number than the configuration's.
    """
    count = config.get("num_classes")
    if not count or (classes is not None and classes != count):
        return None
    names = config.get("label_names")
    if names:
        if isinstance(names, Mapping):
            names = [names.get(index, names.get(str(index))) for index in range(count)]
        if len(names) != count or any(name is None for name in names):
            return None
        said = config.get("label_descriptions") or {}
        if not said and all(_SYNSET.fullmatch(str(name)) for name in names):
            said = _imagenet_lemmas()
        return unique(_synonyms(said.get(name)) or [str(name)] for name in names)
    return _imagenet(count)


def unique(choices: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """For each class the first of its texts that no class before it has, else the first with the index behind it."""
    found: dict[str, None] = {}
    for index, texts in enumerate(choices):
        fresh = next((text for text in texts if text and text not in found), f"{texts[0]} ({index})")
        found[fresh] = None
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _imagenet(count: int) -> tuple[str, ...] | None:
    """ImageNet's texts in the order that timm's models of `count` classes have; none for other numbers."""
    data = optional("timm.data", "timm", "the label texts of a timm model")
    subset = data.infer_imagenet_subset({"num_classes": count})
    if subset is None or (info := data.ImageNetInfo(subset)).num_classes() != count:
        return None
    return unique(_synonyms(info.label_name_to_description(name)) for name in info.label_names())


@functools.cache
def _imagenet_lemmas() -> dict[str, str]:
    data = optional("timm.data", "timm", "the label texts of a timm model")
    lemmas: dict[str, str] = data.ImageNetInfo("imagenet-22k").label_descriptions(as_dict=True)
    return lemmas


def _synonyms(text: str | None) -> list[str]:
    """WordNet's names for one thing, the usual one first."""
    return [name.strip() for name in text.split(",")] if text else []
