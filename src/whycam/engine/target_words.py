"""A target in words: `281`, `tabby cat`, `probability:281`, `contrast:281/282`, `finer`."""

import re
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from inspect import isabstract
from typing import Any

from whycam.errors import WhycamError

#: For `--help`. The kinds are read from `whycam.targets`, so a new one there is understood here.
HELP = (
    "What to explain: a class's index or label, or KIND:CLASS with KIND one of probability, log_probability, rest, "
    "counterfactual, finer (from its nearest rivals), contrast:A/B (A rather than B), multilabel:A+B. "
    "A kind alone is of the top class; so is leaving this out. Of detectors box:0, of segmenters region:road or "
    "region:road@120,80 (the part at a pixel), of encoders similarity:REF.jpg, of those that read texts "
    "'text:a dog' or 'text:a dog/a cat', of estimators value:0. "
    "Or 'package.module:function', output -> scores."
)


def parse_target(text: str, *, own: bool = True) -> Any:
    """What `explain` takes as `target`, from its spelling on the command line.

    Digits are an index, `top` is each photo's top class, `KIND:CLASS` is a target object, other text is a label. A
    label that is itself a kind's name is written `class:LABEL`.

    Args:
        own: whether `package.module:function` may name a function, which imports that module.

    Raises:
        WhycamError: a kind that is nearly right, or one without the classes it needs.
    """
    from whycam.kit.declared import plain

    kinds = _kinds()
    word, colon, rest = text.partition(":")
    if make := kinds.get(plain(word)):
        return make(text, rest.strip())
    if colon and own and (function := _own_function(text)) is not None:
        return function
    if colon and (near := get_close_matches(plain(word), kinds, n=1, cutoff=0.75)):
        raise WhycamError(
            f"there is no kind of target {word!r}. Did you mean '{near[0]}:{rest}'? For a label that holds a colon "
            f"write 'class:{text}'."
        )
    return _class(text, text)


def _own_function(text: str) -> Any:
    """The function of the caller's own that `package.module:name` names; `None` if no such module is there."""
    from whycam.models.sources.callable import importable, named_object, names_an_object

    if not names_an_object(text) or not importable(text.partition(":")[0]):
        return None
    found = named_object(text)
    if not callable(found):
        raise WhycamError(f"the target {text!r} is a {type(found).__name__}; a function output -> scores was expected.")
    return found


def _kinds() -> dict[str, Callable[[str, str], Any]]:
    """By name, how each kind is made from the whole text and from what follows the colon."""
    from whycam import targets
    from whycam.kit.declared import plain

    made: dict[str, Callable[[str, str], Any]] = {}
    for name, kind in vars(targets).items():
        if isinstance(kind, type) and issubclass(kind, targets.OutputTarget) and not isabstract(kind):
            made[plain(name)] = partial(_read, kind)
        if isinstance(kind, type) and issubclass(kind, (targets.Target, targets.MultiLabel)) and not isabstract(kind):
            names = {field.name for field in fields(kind)}
            read = _several if "classes" in names else _against if "against" in names else _one
            made[plain(name)] = partial(read, kind)
    return {**made, "class": partial(_one, targets.ClassScore), "finer": partial(_one, targets.Contrast)}


def _read(kind: Any, text: str, rest: str) -> Any:
    return kind.from_text(rest)


def _one(kind: Callable[..., Any], text: str, rest: str) -> Any:
    return kind(_class(rest, text) if rest else None)


def _several(kind: Callable[..., Any], text: str, rest: str) -> Any:
    return kind(_classes(rest, text) if rest else None)


def _against(kind: Callable[..., Any], text: str, rest: str) -> Any:
    """`A/B`. Labels such as 'swim trunks / shorts' hold a slash between spaces, so one without comes first."""
    parts = re.split(r"(?<=\S)/(?=\S)", rest)
    parts = parts if len(parts) > 1 else rest.split("/")
    if len(parts) != 2 or not all(map(str.strip, parts)):
        word = text.partition(":")[0]
        raise WhycamError(
            f"{text!r} needs two classes, as in '{word}:A/B' for A rather than B (and '{word}:top/B' for the top "
            "class); 'finer:A' is A rather than its nearest rivals."
        )
    return kind(_class(parts[0], text), against=_classes(parts[1], text))


def _classes(text: str, whole: str) -> tuple[int | str, ...]:
    found = [_class(part, whole) for part in text.split("+")]
    if None in found:
        raise WhycamError(f"{whole!r}: 'top' stands for another class in each photo; name the classes here.")
    return tuple(each for each in found if each is not None)


def _class(text: str, whole: str) -> int | str | None:
    text = text.strip()
    if not text:
        raise WhycamError(f"the target {whole!r} leaves out a class; give an index or a label text.")
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    return None if text.lower() == "top" else text
