"""What the page asks in JSON -> a `Request`, in the same words as on the command line."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from whycam.engine.request import Request
from whycam.engine.session import Session
from whycam.engine.target_words import parse_target
from whycam.errors import OptionError
from whycam.kit.option_words import convert
from whycam.kit.progress import Progress
from whycam.kit.quantities import FUNCTIONS
from whycam.kit.registry import find
from whycam.network.variants.scoring import RunConfig
from whycam.page.kept import Kept
from whycam.targets import TargetSpec, key
from whycam.targets.vectors import Similarity

#: What a question may hold beside its photo and its model.
_FIELDS = {"methods", "layers", "targets", "smoothing", "fusion"}


class Aim(NamedTuple):
    """A target: as it was asked for, as `compare` takes it, and both as they are where there is no page."""

    text: str
    target: TargetSpec
    words: str
    spec: TargetSpec


@dataclass(frozen=True)
class Question:
    """What is asked of one photo, as it was asked.

    Attributes:
        methods: the options of each method by its name; none of them: the network's usual method.
        layers: as `--layers` has them, `"layer3+layer4"` fused; none of them: chosen.
        targets: as `--targets` has them; none of them: the top class.
        smoothing, fusion: as for `Explainer.compare`.
    """

    methods: Mapping[str, Mapping[str, Any]]
    layers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    smoothing: str | None = None
    fusion: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Question":
        """Raises `WhycamError` for another form, for methods that do not exist, and for options that do not fit."""
        if unknown := sorted(body.keys() - _FIELDS - {"photo", "model"}):
            raise OptionError(f"a question has {', '.join(sorted(_FIELDS))}; {unknown[0]!r} is none of them.")
        methods: dict[str, dict[str, Any]] = {}
        for each in _listed(body, "methods", dict):
            method = find(_text(each, "name"))
            if method.name in methods:
                raise OptionError(f"{method.title} came twice; options are one set for each method.")
            given = each.get("options") or {}
            if not isinstance(given, dict):
                raise OptionError(f"the options of {method.name} are values by name, not {given!r}.")
            methods[method.name] = {
                name: convert(method, method.option(name), value) if isinstance(value, str) else value
                for name, value in given.items()
            }
            method.check_options(methods[method.name])
        words = {name: body.get(name) for name in ("smoothing", "fusion")}
        if wrong := [name for name, value in words.items() if not isinstance(value, str | None)]:
            raise OptionError(f"{wrong[0]} is a text, not {words[wrong[0]]!r}.")
        targets = tuple("top" if each is None else each for each in _listed(body, "targets", str | None))
        return cls(methods, tuple(_listed(body, "layers", str)), targets, **words)

    @property
    def slow(self) -> bool:
        """Whether a method runs the network many times, so that quick work should not wait for it."""
        return bool(self.smoothing) or any(find(each).needs & FUNCTIONS for each in self.methods)

    def aims(self, kept: Kept) -> dict[Hashable, Aim]:
        """The targets by their keys.

        Raises:
            WhycamError: one that is none, or that would read a file or run code of this machine.
        """
        made = {}
        for text in self.targets or ("top",):
            target = parse_target(text, own=False)
            aim = Aim(text, target, text, target)
            if isinstance(target, Similarity):  # a photo that the page has, never a path
                other = kept.named(str(target.reference))
                there = replace(target, reference=other.source)
                aim = Aim(text, replace(target, reference=other.photo.image), f"similarity:{other.source}", there)
            made[key(aim.target)] = aim
        return made

    def request(self, session: Session, aims: Mapping[Hashable, Aim], progress: Progress) -> Request:
        """The same for the engine, which says how far it is to `progress`."""
        targets = [each.target for each in aims.values()]
        return Request.several(
            list(self.methods) or [session.usual_method(targets[0])],
            [each.split("+") if "+" in each else each for each in self.layers] or None,
            targets,
            self.fusion,
            self.methods,
            smoothing=self.smoothing,
            usual=not self.methods,
            run=RunConfig(progress=progress),
        )


def _listed(body: Mapping[str, Any], name: str, kind: Any) -> list[Any]:
    found = body.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        raise OptionError(f"{name} is a list, as the page sends it, not {found!r}.")
    return found


def _text(each: Mapping[str, Any], name: str) -> str:
    found = each.get(name)
    if not isinstance(found, str):
        raise OptionError(f"a method has a {name}, a text; what came is {found!r}.")
    return found
