"""Options that several commands share, and the words they are given in."""

import csv
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from whycam.errors import WhycamError
from whycam.kit.words import readable

if TYPE_CHECKING:
    from whycam.models.vision_model import VisionModel
else:
    VisionModel = Any  # brings torch

DEFAULT_FOLDER = Path("whycam-out")
FORMS = (
    "'timm:NAME', 'torchvision:NAME', 'hf:NAME', 'ultralytics:FILE.pt', 'keras:PATH', a folder with config.json and "
    "weights, or 'package.module:callable'"
)

Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="SPEC",
        help=f"The network: 'builtin', {FORMS}.",
    ),
]
Weights: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weights to load into it: .safetensors, .pt or .pth; or 'random', to look at its structure.",
    ),
]
UnsafePickle: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--unsafe-pickle",
        help="Read a weights file that runs code stored in it. That code can do anything you can do on this machine.",
    ),
]
Fusion: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--fusion",
        metavar="NAME",
        help="How several layers become one map: mean (default), maximum, sum, tanh, product, poly, winsor.",
    ),
]
Colormap: TypeAlias = Annotated[
    str | None, typer.Option("--colormap", metavar="NAME", help="Colors: plasma (default), jet, viridis, turbo, ...")
]
Opacity: TypeAlias = Annotated[
    float, typer.Option("--opacity", min=0, max=1, metavar="SHARE", help="Of the heat map over the photo, 0 to 1.")
]
Blend: TypeAlias = Annotated[
    Literal["map", "even"],
    typer.Option("--blend", help="Colors as opaque as the map is strong (map), or everywhere the same (even)."),
]
Enlarge: TypeAlias = Annotated[
    Literal["cubic", "bilinear", "nearest"],
    typer.Option("--enlarge", help="Maps smooth (cubic), linear, or each of their cells as a block (nearest)."),
]
Contour: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--contour", min=0, max=1, metavar="LEVEL", help="A line around what is above this share of the map's maximum."
    ),
]
Signed: TypeAlias = Annotated[
    bool, typer.Option("--signed", help="Diverging colors pinned at zero, to show evidence against as well.")
]
Device: TypeAlias = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="Where the network runs: cpu, cuda, cuda:1, mps, ...")
]
Precision: TypeAlias = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(
        "--precision",
        metavar="TYPE",
        help="Score the variants of methods that run the network many times by a fast copy of it, in float32, bfloat16 "
        "or float16.",
    ),
]
Compile: TypeAlias = Annotated[
    bool, typer.Option("--compile", help="Also compile that copy, which pays for thousands of variants.")
]
Budget: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="SIZE",
        help="Memory for the variants under way, as 2GB or 500MB. Without: half of what is free.",
    ),
]
Smoothing: TypeAlias = Annotated[
    Literal["augmentations", "component"] | None,
    typer.Option(
        "--smoothing",
        metavar="NAME",
        help="augmentations: the mean over mirrored and dimmed photos, at six times the cost. component: the first "
        "principal component of the weighted channels.",
    ),
]
Answer: TypeAlias = Annotated[
    str | None,
    typer.Option("--answer", metavar="PATH", help="The part of the model's output to explain: logits, aux.0, ..."),
]
Layout: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="AXES",
        help="How to read the layer's axes: channels-first, channels-last, or tokens:14x14+1 (a grid behind 1 token).",
    ),
]
Views: TypeAlias = Annotated[
    str | None,
    typer.Option("--views", metavar="A,B", help="The inputs that the calls of the layer look at: 1,0 or left,right."),
]
Preprocess: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="WAY",
        help="How a photo becomes the input: imagenet, imagenet:384, or 'package.module:function'.",
    ),
]
Labels: TypeAlias = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE", help="The classes' texts: one a line, or JSON (a list, or id2label)."),
]
Box: TypeAlias = Annotated[
    str | None,
    typer.Option("--box", metavar="N", help="A detected box: its place in the list, 0 the first, or x1,y1,x2,y2."),
]
Boxes: TypeAlias = Annotated[
    float | None, typer.Option("--boxes", metavar="SCORE", help="Every detected box of at least that score.")
]
Region: TypeAlias = Annotated[
    str | None, typer.Option("--region", metavar="CLASS", help="What a segmenter calls so, or the part at --point.")
]
Point: TypeAlias = Annotated[
    str | None, typer.Option("--point", metavar="X,Y", help="A pixel of the photo, with --region.")
]
Similar: TypeAlias = Annotated[
    str | None, typer.Option("--similar", metavar="PHOTO", help="Why an encoder finds the photos alike.")
]
Text: TypeAlias = Annotated[
    str | None,
    typer.Option("--text", metavar="SENTENCE", help="Why a photo matches it, or 'this one/rather than this one'."),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only, and no progress.")]

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_UNITS |= {f"{unit}I": 1024**power for power, unit in enumerate("KMGT", 1)}


def engine_options(
    *,
    precision: str | None,
    compile: bool,
    budget: str | None,
    smoothing: str | None,
    answer: str | None,
    layout: str | None,
    views: str | None,
    quiet: bool,
) -> dict[str, Any]:
    """What `explain` and `compare` share of their parameters, as the engine takes them; it checks what they may be.

    Raises:
        WhycamError: a layout or a size that there is not.
    """
    return {
        "precision": precision,
        "compile": compile,
        "budget": in_bytes(budget) if budget is not None else None,
        "smoothing": smoothing,
        "progress": not quiet,
        "output": _number_or_name(answer) if answer is not None else None,
        "layout": _layout(layout) if layout is not None else None,
        "views": [_number_or_name(each) for each in split_list([views])] if views is not None else None,
    }


def split_layers(layers: Sequence[str] | None) -> list[str | list[str]]:
    """The layers of a list: `X+Y` are two that are fused."""
    return [each.split("+") if "+" in each else each for each in split_list(layers or [])]


def of_evaluate(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of `engine_options` evaluations take: they measure maps as methods make them, and compile nothing."""
    return {name: each for name, each in options.items() if name not in ("compile", "smoothing")}


def wanted(
    target: str | None,
    *,
    box: str | None,
    boxes: float | None,
    region: str | None,
    point: str | None,
    similar: str | None,
    sentence: str | None,
) -> list[str]:
    """The targets that the options name, each as `--target` has it.

    Raises:
        WhycamError: a point without a region.
    """
    if point is not None and region is None:
        raise WhycamError("--point is a pixel of the region that is meant; say with --region what it is called there.")
    named = {
        "box": box,
        "boxes": boxes,
        "region": region if point is None else f"{region}@{point}",
        "similarity": similar,
        "text": sentence,
    }
    asked = [f"{kind}:{given}" for kind, given in named.items() if given is not None]
    return [*([target] if target is not None else []), *asked]


def _number_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _layout(text: str) -> Any:
    from whycam.network import layouts

    plain = text.strip().lower().replace("_", "-")
    if plain in ("channels-first", "channels-last"):
        return layouts.ChannelsFirst() if plain == "channels-first" else layouts.ChannelsLast()
    found = re.fullmatch(r"tokens:(\d+(?:x\d+)*)(?:\+(\d+))?", plain)
    if found is None:
        raise WhycamError(
            f"--layout is channels-first, channels-last, or tokens:HEIGHTxWIDTH+PREFIX such as tokens:14x14+1; not "
            f"{text!r}."
        )
    return layouts.Tokens(tuple(map(int, found[1].split("x"))), int(found[2] or 0))


def metric_names(metrics: Sequence[str] | None, placed: bool) -> list[str] | None:
    """The metrics that a list names; `all` is every one that can be asked, with or without the targets' places."""
    from whycam.kit.metric import TRUTH, list_metrics

    listed = split_list(metrics or [])
    if listed == ["all"]:
        return [each.name for each in list_metrics() if placed or each.mosaics or not each.takes & TRUTH]
    return listed or None


def in_bytes(size: str) -> int:
    """How many bytes `2GB`, `1.5 GiB`, `500MB` or `1000000` are.

    Raises:
        WhycamError: it is no such size.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?((?:[KMGT]I?)?)B?", size.strip().upper())
    made = int(float(found[1]) * _UNITS[found[2]]) if found is not None else 0
    if made < 1:
        raise WhycamError(f"--budget is a size such as 2GB, 500MB or 1GiB, or a number of bytes; not {size!r}.")
    return made


def load_model(
    spec: str,
    weights: Path | None,
    unsafe_pickle: bool,
    *,
    for_photos: bool = True,
    preprocess: str | None = None,
    labels: Path | None = None,
    device: str | None = None,
) -> VisionModel:
    """The model that the options name, with the preprocessing and the labels that they name, on a device.

    Raises:
        WhycamError: there is none, its weights do not fit, it does not say how a photo becomes its input, or there is
            no such device.
    """
    from whycam.models.conversion import NoPhotos
    from whycam.models.load import load
    from whycam.models.vision_model import as_labels, put_on

    vision = load(spec, weights=weights, unsafe_pickle=unsafe_pickle)
    if preprocess is not None:
        vision = replace(vision, preprocess=_preprocess(preprocess), preprocess_note="")
    if labels is not None:
        vision = replace(vision, labels=as_labels(read_labels(labels)))
    if for_photos and vision.preprocess is None:
        raise WhycamError(
            f"{spec!r} is a network alone, which does not say how a photo becomes its input; say it with --preprocess, "
            "such as --preprocess imagenet, or name a function that returns "
            "whycam.VisionModel(network, whycam.Preprocess.imagenet(), labels), as 'package.module:callable'."
        )
    if for_photos and isinstance(vision.preprocess, NoPhotos):
        raise WhycamError(vision.preprocess.reason)
    if device is not None:
        put_on(vision, device, "--device")
    return vision


def _preprocess(text: str) -> Any:
    from whycam.models.sources.callable import named_object, names_an_object
    from whycam.pictures.preprocess import Preprocess
    from whycam.results.reproduce import imagenet_sizes

    if (sizes := imagenet_sizes(text)) is not None:
        return Preprocess.imagenet(*sizes)
    if names_an_object(text):
        return named_object(text)
    raise WhycamError(f"--preprocess is imagenet, imagenet:SIZE or 'package.module:function', not {text!r}.")


def read_labels(path: Path) -> Any:
    """The texts in a file: JSON, a list or a mapping, if it is; else a tuple of its lines."""
    from json import JSONDecodeError, loads

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WhycamError(f"--labels {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        found = loads(text)
    except JSONDecodeError:
        found = None
    return found if isinstance(found, (list, dict)) else tuple(text.splitlines())


def need_matplotlib(purpose: str) -> None:
    """Raise, before any work is done, if figures cannot be drawn here."""
    from importlib.util import find_spec

    from whycam.errors import missing

    if find_spec("matplotlib") is None:
        raise missing("matplotlib", "plot", purpose)


def command() -> str:
    """The command as it was typed, for whoever wants the same again."""
    return shlex.join(["whycam", *map(readable, sys.argv[1:])])


def make_folder(path: Path) -> None:
    """Make an output folder, or say why it cannot be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise WhycamError(f"{path} is a file; -o names the folder to write to.") from None
    except OSError as error:
        raise WhycamError(f"the folder {path} cannot be made: {error.strerror or error}.") from None


def figure_path(output: Path, name: str) -> Path:
    """`output` if it names a file, else a file of that name in that folder; folders are made.

    Raises:
        WhycamError: a suffix that no figure can have, or a folder that cannot be made.
    """
    from whycam.pictures.figures import kind_of

    if output.is_dir() or not output.suffix:
        make_folder(output)
        return output / name
    kind_of(output)
    make_folder(output.parent)
    return output


def split_list(given: Sequence[str]) -> list[str]:
    """The entries of comma-separated lists; one that holds a comma itself goes in double quotes, as in CSV."""
    rows = csv.reader(given, skipinitialspace=True)
    return [entry.strip() for row in rows for entry in row if entry.strip()]
