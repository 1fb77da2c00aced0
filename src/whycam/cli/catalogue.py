"""`whycam layers` and `whycam methods`: what there is to choose from."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from whycam.cli import arguments as given
from whycam.cli.output import Output, counted, fields, table, text
from whycam.errors import WhycamError

if TYPE_CHECKING:
    from whycam.models.vision_model import VisionModel
    from whycam.registry import Method
else:
    VisionModel = Method = Any  # bring torch


def layers(
    model: given.Model = "builtin",
    weights: given.Weights = None,
    unsafe_pickle: given.UnsafePickle = False,
    photo: Annotated[
        Path | None, typer.Option("--photo", "-p", metavar="PHOTO", help="A photo to run the network on.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", "-s", metavar="HxW", help="Or the size of its input, as 224x224 (or 1x28x28 for grey)."),
    ] = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """List where in a network maps can be made.

    In the order the layers run, with those marked that are chosen when none is named. '--layer' takes these names, and
    globs ('_blocks.1*'); 'NAME:input' is what a layer is given.

    \b
    Examples:
      whycam layers
      whycam layers --model my_package.networks:build --size 320x320
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.catalogue import layers as list_layers
        from whycam.pictures.photos import read_photo

        if photo is not None and size is not None:
            raise WhycamError("--photo and --size both say what the network is run on; give one of them.")
        shape = _shape(size) if size is not None else None
        picture = read_photo(photo) if photo is not None else None
        vision = given.load_model(model, weights, unsafe_pickle, for_photos=photo is not None)
        found = list_layers(vision, picture if picture is not None else _blank(vision, shape))
        out.document({"model": vision.name, "layers": [asdict(each) for each in found]})
        layouts = list(dict.fromkeys(each.layout for each in found))
        rows = table("", "Name", "Shape", "Stride", *(["Layout"] if len(layouts) > 1 else []), "Kind", whole=("Name",))
        reasons: dict[str, list[str]] = {}
        for each in found:
            if each.chosen_for:
                reasons.setdefault(each.why, []).append(f"{each.name}, for {' and '.join(each.chosen_for)}")
            rows.add_row(
                Text("*" if each.chosen_for else "", "bold green"),
                text(each.name, "bold green" if each.chosen_for else ""),
                "x".join(map(str, each.shape[1:])),
                _stride(each.stride),
                *([each.layout] if len(layouts) > 1 else []),
                Text(each.kind, no_wrap=True, overflow="ellipsis"),
            )
        same = f", all {layouts[0]}" if len(layouts) == 1 else ""
        out.show(text(f"{vision.name}: {counted(len(found), 'layer')}{same}", "bold"), "", rows, "")
        out.show("* chosen when no layer is named:")
        for why, places in reasons.items():
            out.show(fields({"": text(f"{', '.join(places)}: {why}")}))


def methods(json: given.Json = False, quiet: given.Quiet = False) -> None:
    """List the methods and their options.

    \b
    Examples:
      whycam methods
      whycam explain cat.png -m kpca_cam -O kernel=rbf -O gamma=0.1
    """
    out = Output(json=json, quiet=quiet)
    with out.sentences():
        from whycam.catalogue import list_methods

        found = list_methods()
        out.document({"methods": [_described(each) for each in found]})
        wide = table("Name", "Title", "Explains", "Needs", "Options", "Paper")
        narrow: dict[str, RenderableType] = {}
        for each in found:
            explains = "a class" if each.class_specific else "no class"
            needs, options = ", ".join(sorted(each.needs)), ", ".join(map(str, each.options.values()))
            wide.add_row(Text(each.name, "bold"), each.title, explains, needs, options or "-", each.paper)
            narrow[each.name] = Text.assemble(
                each.title,
                f", {each.paper}\nexplains {explains}, needs {needs}",
                f"\noptions {options}" if options else "",
                "\n",
            )
        out.show(wide if out.fits(wide) else fields(narrow, style="bold"))


def _described(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "title": method.title,
        "paper": method.paper,
        "summary": method.summary,
        "class_specific": method.class_specific,
        "has_layer": method.has_layer,
        "assumes_non_negative": method.assumes_non_negative,
        "side": method.side,
        "caution": method.caution,
        "needs": sorted(method.needs),
        "options": {option.name: option.default for option in method.options.values()},
    }


def _shape(size: str) -> tuple[int, ...]:
    found = tuple(map(int, size.lower().split("x"))) if re.fullmatch(r"[0-9]+(x[0-9]+){1,2}", size.lower()) else ()
    if not found or 0 in found:
        raise WhycamError(
            f"--size is height x width, as 224x224, or channels x height x width, as 1x28x28; not {size!r}."
        )
    return found if len(found) == 3 else (3, *found)


def _blank(vision: VisionModel, shape: tuple[int, ...] | None) -> Any:
    """An input of zeros: of the size asked for, or of that which the model's preprocessing makes."""
    import torch

    from whycam.pictures.preprocess import Preprocess

    if shape is None:
        if not isinstance(vision.preprocess, Preprocess):
            raise WhycamError("this model does not say what size its input has; pass --size, as 224x224.")
        shape = (3, *vision.preprocess.size)
    dtype = next((each.dtype for each in vision.module.parameters() if each.is_floating_point()), torch.float32)
    return torch.zeros(1, *shape, dtype=dtype)


def _stride(stride: tuple[float, ...]) -> str:
    spelled = [f"{each:.4g}" for each in stride]
    return spelled[0] if len(set(spelled)) == 1 else "x".join(spelled)
