"""What the page is told, as plain values that JSON can hold: networks, methods, color maps, layers, maps."""

from collections.abc import Hashable, Mapping
from dataclasses import asdict
from typing import Any, get_args, get_origin

from whycam.checkup.layers import LayerInfo
from whycam.kit.declared import Option
from whycam.kit.options import choices, words
from whycam.kit.registry import Method, list_methods
from whycam.page.kept import KeptMap, KeptPhoto
from whycam.page.networks import Served
from whycam.pictures.colormaps import DEFAULT, DEFAULT_SIGNED, palette
from whycam.results.drawing import canvas
from whycam.results.explanation import Comparison, Explanation
from whycam.results.heat import context_of
from whycam.results.saving import plain_option

#: What the page offers: the usual ones, the classic one, and others that are even.
_COLORMAPS = {DEFAULT: False, "viridis": False, "magma": False, "turbo": False, "jet": False, "gray": False,
              DEFAULT_SIGNED: True, "colorbrewer:RdBu_r": True}  # fmt: skip


def photo(kept: KeptPhoto) -> dict[str, Any]:
    """A photo; width and height are those of the picture that is drawn of it, beside its own."""
    return {
        "id": kept.id,
        "name": kept.name,
        "width": kept.drawn.image.width,
        "height": kept.drawn.image.height,
        "photo_width": kept.photo.image.width,
        "photo_height": kept.photo.image.height,
        "notes": list(kept.photo.notes),
    }


def network(served: Served) -> dict[str, Any]:
    """One of the networks."""
    return {
        "id": served.id,
        "spec": served.spec,
        "title": served.session.vision.name,
        "answers": served.answers,
        "usual_method": served.usual_method,
    }


def methods() -> list[dict[str, Any]]:
    """Every method, with what a form needs to know of its options."""
    return [
        {
            "name": each.name,
            "title": each.title,
            "class_specific": each.class_specific,
            "has_layer": each.has_layer,
            "paper": each.paper,
            "summary": each.summary,
            "needs": sorted(each.needs),
            "options": [_option(option) for option in each.options.values()],
        }
        for each in list_methods()
    ]


def _option(option: Option) -> dict[str, Any]:
    kinds = choices(option.annotation)
    literals = [each for kind in kinds if get_origin(kind) is not None for each in get_args(kind)
                if isinstance(each, str)]  # fmt: skip
    kind = (
        "choice" if literals
        else "truth" if isinstance(option.default, bool)
        else "number" if isinstance(option.default, (int, float))
        else "text"
    )  # fmt: skip
    return {
        "name": option.name,
        "kind": kind,
        "default": plain_option(option.default),
        "choices": literals or None,
        "doc": words(option.annotation),
    }


def colormaps() -> list[dict[str, Any]]:
    """The levels of each color map that the page offers, lowest first."""
    return [
        {
            "name": name,
            "title": name.rpartition(":")[2].replace("_", " "),
            "signed": signed,
            "levels": palette(name, signed).tolist(),
        }
        for name, signed in _COLORMAPS.items()
    ]


def layer(info: LayerInfo) -> dict[str, Any]:
    """A layer that may be named."""
    usable = info.location != "refuted"
    return {
        "name": info.name,
        "short": info.name,
        "kind": info.kind,
        "grid": list(info.grid),
        "why": info.why if usable else "its positions are known to lie elsewhere than in the picture",
        "usable": usable,
        "chosen": bool(info.chosen_for),
    }


def possible(method: Method, refused: Mapping[str, str]) -> dict[str, Any]:
    """Whether a method can be asked of a network, and why not."""
    return {"name": method.name, "usable": method.name not in refused, "why": refused.get(method.name, "")}


def one_map(kept: KeptMap, target: str | None) -> dict[str, Any]:
    """A map, and all that is said of it; `target` is how it was asked for."""
    one = kept.one
    drawn = _is_heat(one)
    geometry = context_of(one).geometries[0] if drawn and context_of(one).geometries else None  # type: ignore[index]
    return {
        "id": kept.id,
        "method": one.method,
        "title": one.title,
        "layer": {"name": one.layer.name, "short": one.layer.short, "why": one.layer.why},
        "target": one.target[0] if one.target else None,
        "target_text": target,
        "score": float(one.scores[0]) if one.target else None,
        "prediction": str(one.predictions[0]) if one.predictions else None,
        "status": {"kind": one.status[0].kind, "message": one.status[0].message, "ok": one.status[0].ok},
        "cost": {**asdict(one.cost), "text": str(one.cost)},
        "raw_shape": list(one.maps.shape[1:]),
        "drawn": "heat" if drawn else "picture",
        "heat": {"height": context_of(one).size[0], "width": context_of(one).size[1]} if drawn else None,
        "geometry": {**asdict(geometry), "seen": geometry.seen} if geometry is not None else None,
        "notes": list(one.notes),
    }


def failures(made: Comparison, asked: Mapping[Hashable, str]) -> list[dict[str, Any]]:
    """What could not be made, and why."""
    return [
        {"method": method, "layer": place, "target": asked.get(target, "top"), "reason": reason}
        for (method, place, target), reason in made.failures.items()
    ]


def target_texts(made: Comparison, asked: Mapping[Hashable, str]) -> list[str | None]:
    """How the target of each map was asked for, if it has one; that of one thing among several in its own words."""
    return [asked.get(target, str(target)) if one.target else None for (_, _, target), one in made.items()]


def _is_heat(one: Explanation) -> bool:
    """Whether the page lays the map over the photo itself; else the server draws the picture."""
    context = context_of(one)
    flat = len(context.size) == 2 and one.maps.ndim == 3
    return flat and (one.parts is None or bool(one.apart)) and canvas(context, 0, "photo")[1] is not None
