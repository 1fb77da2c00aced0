"""What is asked of a network: methods, layers, targets and how; checked whole before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn

from whycam.engine.inputs import ViewLike
from whycam.engine.smoothing import Smoothing, SmoothingLike
from whycam.engine.tiling import Tiles
from whycam.errors import OptionError, WhycamError
from whycam.kit import fusions
from whycam.kit.quantities import LAYER_QUANTITIES
from whycam.kit.registry import Function, Method, find
from whycam.kit.registry import methods as registered
from whycam.network.layer_refs import is_pattern
from whycam.network.layouts import Layout
from whycam.network.outputs import OutputPath
from whycam.network.variants.scoring import RunConfig
from whycam.targets import TargetSpec
from whycam.targets.structured import OutputTarget

MethodLike: TypeAlias = str | Function
LayerLike: TypeAlias = Any  #: a dotted name, a module, a glob, a list of these (fused), or None


@dataclass(frozen=True)
class LayerRequest:
    """What a caller gave as one layer: one or several specs, and whether their maps are fused into one.

    `each`: whether all of the layers that are usual for a network are shown, one by one, where none is named.
    """

    specs: tuple[Any, ...] = (None,)
    fused: bool = False
    each: bool = False

    def __post_init__(self) -> None:
        if not self.specs:
            raise WhycamError("layer is an empty list; name at least one layer, or leave it out to have one chosen.")


def _literal(value: Any) -> bool:
    several = isinstance(value, (list, tuple)) and all(map(_literal, value))
    return several or isinstance(value, (str, int, float))


@dataclass(frozen=True)
class Request:
    """All that is asked of one network and one batch; the fields are the parameters of `Explainer.compare`.

    `usual`: whether nobody named the method, so that the network may have another. `said`: why it is this method, for
    the notes.
    """

    methods: tuple[Method, ...]
    layers: tuple[LayerRequest, ...] = (LayerRequest(),)
    targets: tuple[TargetSpec, ...] = (None,)
    fusion: fusions.Fusion | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layout: Layout | None = None
    output: OutputPath | None = None
    views: Sequence[ViewLike] | None = None
    picture: int | str | None = None
    smoothing: SmoothingLike | Sequence[SmoothingLike] | None = None
    path: int | None = None
    tiles: Tiles | None = None
    signed: bool = False
    per_channel: bool = False
    run: RunConfig = field(default_factory=RunConfig)
    usual: bool = False
    said: str = ""
    smooth: Smoothing = field(init=False, default=Smoothing())

    def __post_init__(self) -> None:
        object.__setattr__(self, "smooth", Smoothing.of(self.smoothing, self.path))
        first = self.methods[0].title
        if self.run.precision is not None and not self.varied:
            raise WhycamError(
                f"precision= is for methods that score variants, such as score_cam; {first} scores none and runs the "
                "network as it is. Leave precision out."
            )
        if self.picture is not None:
            if isinstance(self.picture, bool) or not isinstance(self.picture, (int, str)):
                raise OptionError(f"picture is the position or the name of an input, not {self.picture!r}.")
            if all(each.needs <= LAYER_QUANTITIES | {"scores"} for each in self.methods):
                raise WhycamError(
                    f"picture= is for methods that read the input, and {first} reads its layer alone. Which picture a "
                    "layer looks at is measured, or said with views=; leave picture out."
                )
        without = [each.title for each in self.methods if self.path and "gradients" not in each.needs]
        if without:
            raise WhycamError(
                "path= averages what the gradients at a layer say on the way from a blank input, and "
                f"{without[0]} reads none of these. Leave path out."
            )
        if self.tiles is not None and (self.smoothing is not None or self.path is not None):
            raise OptionError("tiles= and smoothing= or path= exclude each other; leave one out.")
        if self.views is not None and not any(each.has_layer for each in self.methods):
            raise WhycamError(f"{first} works at the (first) input and at no layer. Leave views out.")

    def beside(self, fusion: str | None) -> str:
        """What was asked beside method, target, layer and options, as code; "..." stands for what is no literal.

        Args:
            fusion: the name of the one by which layers were joined, if any were.
        """
        own = self.fusion if self.fusion is not None and fusion not in fusions.names() else fusion
        given = (
            ("fusion", own), ("layout", self.layout), ("output", self.output), ("views", self.views),
            ("picture", self.picture), ("smoothing", self.smoothing), ("path", self.path), ("tiles", self.tiles),
            ("signed", self.signed or None), ("precision", self.run.precision),
        )  # fmt: skip
        said = [f"{name}={repr(value) if _literal(value) else '...'}" for name, value in given if value is not None]
        return ", ".join(said)

    @property
    def varied(self) -> bool:
        """Whether a method scores variants, which runs the network many times for each sample."""
        return any(each.needs & {"score", "score_from", "score_dimmed"} for each in self.methods)

    @property
    def open(self) -> bool:
        """Whether the network's usual method is to be taken: classes are asked about, and nothing is said that only
        methods of layers know.
        """
        if not self.usual or [each.specs for each in self.layers] != [(None,)] or any(self.options.values()):
            return False
        others = (self.path, self.tiles, self.picture, self.fusion, self.layout, self.views, self.run.precision)
        special = self.signed or self.per_channel or any(each is not None for each in others)
        first = (
            self.targets[0][0] if isinstance(self.targets[0], (list, tuple)) and self.targets[0] else self.targets[0]
        )
        return not special and not isinstance(first, OutputTarget)

    @classmethod
    def one(
        cls,
        method: MethodLike,
        target: TargetSpec,
        layer: LayerLike,
        fusion: str | fusions.Fusion | None,
        options: Mapping[str, Any],
        **common: Any,
    ) -> "Request":
        """The request of `explain`: one method, one target, and one layer or several that are fused."""
        chosen = find(method)
        if target is not None and not chosen.class_specific:
            raise WhycamError(
                f"{chosen.title} explains no class: its map would be the same for every target. Leave target out, or "
                "use a method that reads the score, such as grad_cam."
            )
        if layer is not None and not chosen.has_layer:
            raise WhycamError(f"{chosen.title} works at the input and reads no layer. Leave layer out.")
        for name in options.keys() & {"methods", "layers", "targets"}:
            raise WhycamError(f"explain has no {name}=; did you mean {name[:-1]}=? For several use whycam.compare.")
        if isinstance(target, OutputTarget) and target.several:
            raise WhycamError(f"{target} stands for several things; use whycam.compare with targets=[{target}].")
        chosen.check_options(options)
        fuse = _fusion(fusion)
        several = isinstance(layer, (list, tuple))
        scales = layer is None and isinstance(target, OutputTarget)  # a detector is read at several
        if fuse is not None and not several and not scales and not (isinstance(layer, str) and is_pattern(layer)):
            raise WhycamError("fusion= joins the maps of several layers, and one came; pass layer= a list or a glob.")
        asked = LayerRequest(tuple(layer) if several else (layer,), fused=layer is not None)
        return cls((chosen,), (asked,), (target,), fusion=fuse, options={chosen.name: options}, **common)

    @classmethod
    def several(
        cls,
        methods: Sequence[MethodLike] | str,
        layers: Sequence[LayerLike] | None,
        targets: Sequence[TargetSpec] | None,
        fusion: str | fusions.Fusion | None,
        options: Mapping[str, Mapping[str, Any]] | None,
        **common: Any,
    ) -> "Request":
        """The request of `compare`: every combination of methods, layers and targets."""
        chosen = chosen_methods(methods)
        if isinstance(layers, (str, nn.Module)):
            raise WhycamError(
                f"layers is a list, such as layers=[{layers if isinstance(layers, str) else 'module'!r}]."
            )
        if isinstance(targets, (str, int)):
            raise WhycamError(f"targets is a list, such as targets=[{targets!r}].")
        if not chosen or (layers is not None and not list(layers)) or (targets is not None and not list(targets)):
            raise WhycamError(
                "methods, layers and targets each need at least one entry; leave one out for its default."
            )
        asked = [
            LayerRequest(tuple(each), fused=True) if isinstance(each, (list, tuple)) else LayerRequest((each,))
            for each in (layers or ())
        ]
        return cls(
            tuple(chosen),
            tuple(asked) or (LayerRequest(each=True),),
            tuple(targets) if targets is not None else (None,),
            fusion=_fusion(fusion),
            options=options_by_name(options or {}, chosen),
            **common,
        )


def _fusion(fusion: str | fusions.Fusion | None) -> fusions.Fusion | None:
    return None if fusion is None else fusions.find(fusion)


def chosen_methods(methods: Sequence[MethodLike] | str) -> list[Method]:
    """The methods that a list of names and functions stands for, each once; `"all"` is every method there is.

    Raises:
        WhycamError: a name that does not exist, or one name alone.
    """
    if isinstance(methods, str):
        if methods != "all":
            raise WhycamError(f"methods is a list, such as methods=[{methods!r}].")
        return list(registered().values())
    return list({each.name: each for each in map(find, methods)}.values())


def options_by_name(options: Mapping[str, Mapping[str, Any]], chosen: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """The options of each method by its own name, however it was spelled.

    Raises:
        WhycamError: options of a method that was not asked for, or that it does not have.
    """
    own = {each.name for each in chosen}  # a function of the caller's is in no table
    by_name = {name if name in own else find(name).name: dict(values) for name, values in options.items()}
    for name, values in by_name.items():
        matching = [each for each in chosen if each.name == name]
        if not matching:
            raise OptionError(f"options came for {name!r}, which is not among the methods.")
        matching[0].check_options(values)
    return by_name
