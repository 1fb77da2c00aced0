"""Explanations and evaluations as parts of a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import whycam
from whycam.errors import WhycamError
from whycam.kit.registry import methods
from whycam.kit.words import plural
from whycam.network.fingerprint import fingerprint
from whycam.network.unwrap import unwrapped
from whycam.pictures import inline
from whycam.pictures.preprocess import Preprocess, preprocess_of
from whycam.reports.values import Colors, ImageShown, MapShown, Part
from whycam.results.heat import color_scale, strength
from whycam.results.layered import cells, color_bar, layered, usual_look
from whycam.results.left_out import left_out
from whycam.results.reopened import Reopened, reopened
from whycam.results.values import ExplanationValues

#: The longest side of a photo in a report, in pixels.
LONGEST = 448


def part_of(
    explanations: Sequence[ExplanationValues], failures: Sequence[tuple[str, str]] = (), weights: str = ""
) -> Part:
    """Explanations of the same samples, those of one sample as one image.

    Args:
        weights: their fingerprint, where somebody took it.
    """
    samples = [[each[i] for each in explanations] for i in range(len(explanations[0]) if explanations else 0)]
    names = [name_of(explanations[0], i) for i in range(len(samples))]
    return Part(
        names[0] if len(names) == 1 else plural(len(names), "image"),
        asked_of(explanations) | ({"Weights": [f"fingerprint {weights}"]} if weights else {}),
        command="\n".join(once(each.provenance.get("command") or _call(each) for each in explanations)),
        images=[image_of(ones, name) for name, ones in zip(names, samples, strict=True)],
        failures=failures,
    )


def fingerprint_of(model: Any) -> str:
    """The fingerprint of a network's weights; of nothing, nothing."""
    return "" if model is None else fingerprint(unwrapped(getattr(model, "module", model)))


def part_of_folder(folder: Path, title: str) -> Part:
    """What a report shows of a folder that `Explanation.save` wrote, the maps of one photo as one image.

    Raises:
        WhycamError: it holds no explanation and no word of what was not explained, or what cannot be read.
    """
    found, failures = reopened(folder), left_out(folder)
    if not found and not failures:
        raise WhycamError(f"{folder} holds no explanation; pass a folder that 'whycam explain' wrote to.")
    of_photo: dict[str, list[Reopened]] = {}
    for each in found:
        of_photo.setdefault(each.photo, []).append(each)
    explanations = [each.explanation for each in found]
    versions = once(", ".join(f"{name} {is_}" for name, is_ in each.versions.items()) for each in found)
    return Part(
        title,
        asked_of(explanations) | {"Versions": versions},
        command="\n".join(once(each.provenance.get("command", "") for each in explanations)),
        images=[
            image_of([each.explanation for each in several], Path(photo).name, missing=several[0].missing)
            for photo, several in of_photo.items()
        ],
        failures=[(Path(photo).name, why) for photo, why in failures.items()],
    )


def asked_of(explanations: Sequence[ExplanationValues]) -> dict[str, list[str]]:
    """What was asked and by what, each name with its lines."""
    prepared = [each.context.preprocess for each in explanations if each.context is not None]
    return {
        "Model": once(each.model for each in explanations),
        "Weights": once(f"fingerprint {found}" for each in explanations if (found := each.provenance.get("weights"))),
        "Preprocessing": once(described(each) for each in prepared if isinstance(each, Preprocess)),
        "Method": once(with_options(each.title, each.options) for each in explanations),
        "Layer": once(f"{each.layer}: {each.layer.why}".rstrip(": ") for each in explanations),
        "Cost": once(str(each.cost) for each in explanations) if len(explanations) == 1 else [],
        "Notes": once(note for each in explanations for note in each.notes),
        "Versions": [f"whycam {whycam.__version__}, torch {torch.__version__}"],
    }


def _call(one: ExplanationValues) -> str:
    """The line of Python that makes maps again, of a network and inputs that only the caller has by name."""
    photos = None if one.context is None else one.context.photos
    paths = [] if photos is None else [str(photo.path) for photo in photos if photo.path is not None]
    inputs = (repr(paths[0]) if len(paths) == 1 else repr(paths)) if len(paths) == len(one) else "inputs"
    layers = one.layer.name.split(" + ")
    said = ["model", inputs, repr(one.method)]
    said += [f"layer={layers if len(layers) > 1 else layers[0]!r}"] if one.layer.name != "input" else []
    said += [f"{name}={value!r}" for name, value in one.options.items()]
    said += [beside] if (beside := one.provenance.get("beside")) else []
    top = [each.name for each in one.predictions]
    note = f"  # target: {', '.join(once(one.target))}" if one.target and [*one.target] != top else ""
    said += ["target=..."] if note else []
    return f"whycam.explain({', '.join(said)}){note}"


def in_words(
    asked: Mapping[str, Any], layers: Sequence[str | None], reasons: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """The same of what the engine was asked, as a run and an evaluation keep it.

    Args:
        layers: where maps were made. reasons: why there, as far as that was kept.
    """
    known, options, preprocess = methods(), asked.get("options", {}), preprocess_of(asked.get("input"))
    titles = {name: known[name].title if name in known else name for name in asked.get("methods", [])}
    named = {str(each) for several in asked.get("layers", []) for each in several} - {"None"}
    why = f"asked for as {', '.join(sorted(named))}" if named else "chosen for each method"
    return {
        "Model": once([asked.get("model", "")]),
        "Weights": [f"fingerprint {asked['weights']}"] if "weights" in asked else [],
        "Preprocessing": once([described(preprocess) if preprocess else asked.get("preprocess", "")]),
        "Method": [with_options(title, options.get(name, {})) for name, title in titles.items()],
        "Layer": [f"{name}: {(reasons or {}).get(name, why)}" for name in once(each or "" for each in layers)],
        "Target": ["each image's top class" if each == "None" else each for each in asked.get("targets", [])],
    }


def described(preprocess: Preprocess) -> str:
    """What is done to a photo, in words."""
    to = preprocess.size if preprocess.resize_to is None else preprocess.resize_to
    side = str(to) if isinstance(to, int) else " x ".join(map(str, to))
    size = " x ".join(map(str, preprocess.size))
    resized = {
        "shorter": f"the shorter side to {side if isinstance(to, int) else min(to)}",
        "stretch": f"stretched to {side}",
        "letterbox": f"fitted into {side}, padded to {size}",
        "cover": f"fitted around {side}",
        "none": "not resized",
    }[preprocess.resize]
    way = "" if preprocess.resize == "none" else f" ({preprocess.interpolation})"
    cut = f"; the middle {size}" if preprocess.crop and preprocess.resize != "letterbox" else ""
    mean, std = (", ".join(f"{each:.4g}" for each in values) for values in (preprocess.mean, preprocess.std))
    return f"{resized}{way}{cut}; channels {preprocess.channels}, minus {mean}, divided by {std}"


def with_options(title: str, options: Mapping[str, Any]) -> str:
    """A title with the options that it was asked with."""
    said = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{title} ({said})" if said else title


def name_of(explanation: ExplanationValues, sample: int) -> str:
    """How a sample is called where people read it: by its photo's file, or its name."""
    context = explanation.context
    if context is None:
        return f"sample{sample}"
    photo = context.photos[sample] if context.photos is not None else None
    return photo.path.name if photo is not None and photo.path is not None else context.name(sample)


def image_of(
    ones: Sequence[ExplanationValues],
    name: str,
    *,
    missing: str = "",
    label: str = "",
    numbers: Sequence[Mapping[str, float]] = (),
) -> ImageShown:
    """An image with its maps, each of one sample.

    Args:
        missing: why there is no photo; the maps are then shown alone. numbers: what was measured of each map.
    """
    photo, maps = None, list[MapShown]()
    said = ones[0].predictions[0] if ones[0].predictions else None
    free = "" if any(one.target for one in ones) else said.name if said is not None else "no class"
    for place, one in enumerate(ones):
        pictures, trouble = dict[str, Any](), ""
        if not missing:
            try:
                made = layered(one, usual_look(one), LONGEST)
                if made.apart:
                    pictures["heat"] = inline.layer(made.heat())
                    photo = photo or inline.photo(made.backdrop())
                else:
                    pictures["picture"] = inline.photo(made.overlay())
            except WhycamError as error:
                trouble = str(error)
        kind, measured = one.target[0] if one.target else free, numbers[place] if numbers else {}
        maps.append(replace(_map_of(one), trouble=trouble, numbers=measured, kind=kind, **pictures))
    first = ones[0]
    notes = first.context.photos[0].notes if first.context is not None and first.context.photos is not None else ()
    return ImageShown(name, maps, photo, missing, "" if said is None else str(said), label, notes)


def _map_of(one: ExplanationValues) -> MapShown:
    raw, shape = cells(one), " x ".join(map(str, one.maps.shape[1:]))
    look = usual_look(one)
    # cells alone end at the map's own peak
    top = color_scale(one, look).high if one.context is not None else float(strength(one.maps, look.signed).max())
    colors = None
    if top > 0 and one.maps.ndim > 2:  # else no color means anything, or a signal's figure says what its own mean
        colors = Colors(f"{-top:.3g}" if look.signed else "0", f"{top:.3g}", inline.cells(color_bar(look.signed)))
    return MapShown(
        one.title, one.layer.short, one.target[0] if one.target else "", float(one.scores[0]), one.status[0], shape,
        raw=None if raw is None else inline.cells(raw), colors=colors,
    )  # fmt: skip


def failed(key: tuple[str, str, Any]) -> str:
    """What could not be explained, in words."""
    method, layer, target = key
    return f"{method} at {layer}" + ("" if target is None else f" for {target}")


def once(lines: Iterable[str]) -> list[str]:
    """Each line once, in the order in which they came; empty ones are left out."""
    return [*dict.fromkeys(line for line in lines if line)]
