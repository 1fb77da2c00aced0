"""Options that several commands share, and the words they are given in."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from whycam.errors import WhycamError

if TYPE_CHECKING:
    from whycam.models.vision_model import VisionModel
else:
    VisionModel = Any  # brings torch

DEFAULT_FOLDER = Path("whycam-out")

Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="SPEC",
        help="The network: 'builtin', 'timm:NAME', 'torchvision:NAME', 'hf:NAME', a folder with config.json and "
        "weights, or 'package.module:callable'.",
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
        "--fusion", metavar="NAME", help="How several layers become one map: mean (default), maximum, tanh, product."
    ),
]
Colormap: TypeAlias = Annotated[
    str | None, typer.Option("--colormap", metavar="NAME", help="Colours: inferno (default), jet, viridis, turbo, ...")
]
Signed: TypeAlias = Annotated[
    bool, typer.Option("--signed", help="Diverging colours pinned at zero, to show evidence against as well.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")]


def load_model(spec: str, weights: Path | None, unsafe_pickle: bool, *, for_photos: bool = True) -> VisionModel:
    """The model that the options name.

    Raises:
        WhycamError: there is none, its weights do not fit, or it does not say how a photo becomes its input.
    """
    from whycam.models.conversion import NoPhotos
    from whycam.models.load import load

    vision = load(spec, weights=weights, unsafe_pickle=unsafe_pickle)
    if for_photos and vision.preprocess is None:
        raise WhycamError(
            f"{spec!r} is a network alone, which does not say how a photo becomes its input; let it return "
            "whycam.VisionModel(network, whycam.Preprocess.imagenet(), labels)."
        )
    if for_photos and isinstance(vision.preprocess, NoPhotos):
        raise WhycamError(vision.preprocess.reason)
    return vision


def check_colormap(name: str | None, signed: bool) -> None:
    """Raise for a colour map that does not exist, before any work is done."""
    from whycam.pictures.colours import palette

    palette(name, signed)


def need_matplotlib(purpose: str) -> None:
    """Raise, before any work is done, if figures cannot be drawn here."""
    from importlib.util import find_spec

    from whycam.errors import missing

    if find_spec("matplotlib") is None:
        raise missing("matplotlib", "plot", purpose)


def make_folder(path: Path) -> None:
    """Make an output folder, or say why it cannot be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise WhycamError(f"{path} is a file; -o names the folder to write to.") from None
    except OSError as error:
        raise WhycamError(f"the folder {path} cannot be made: {error.strerror or error}.") from None


def split_list(given: Sequence[str]) -> list[str]:
    """The entries of comma-separated lists; one that holds a comma itself goes in double quotes, as in CSV."""
    rows = csv.reader(given, skipinitialspace=True)
    return [entry.strip() for row in rows for entry in row if entry.strip()]
