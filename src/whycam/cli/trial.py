"""What `whycam layers` and `whycam doctor` run a network on, and how both name it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from whycam.cli import arguments as given
from whycam.errors import WhycamError

if TYPE_CHECKING:
    from whycam.models.vision_model import VisionModel
else:
    VisionModel = Any  # brings torch

Named: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help=f"The network: 'builtin' (if none is named), {given.FORMS}.",
        show_default=False,
    ),
]
ByOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", metavar="SPEC", help="The same, as an option."),
]
OnPhoto: TypeAlias = Annotated[
    Path | None, typer.Option("--photo", "-p", metavar="PHOTO", help="A photo to run the network on.")
]
OfSize: TypeAlias = Annotated[
    str | None,
    typer.Option("--size", "-s", metavar="HxW", help="Or the size of its input, as 224x224 (or 1x28x28 for gray)."),
]


def trial(
    named: str | None,
    option: str | None,
    weights: Path | None,
    unsafe_pickle: bool,
    photo: Path | None,
    size: str | None,
) -> tuple[VisionModel, Any]:
    """The model that is asked about, and a photo or noise to run it on.

    Raises:
        WhycamError: two models or two inputs were named, or there is none of that name.
        PhotoError: the photo cannot be read.
    """
    from whycam.checkup.doctor import trial_input
    from whycam.pictures.photos import read_photo

    if named is not None and option is not None and named != option:
        raise WhycamError(f"two models came, {named!r} and --model {option!r}; name one.")
    if photo is not None and size is not None:
        raise WhycamError("--photo and --size both say what the network is run on; give one of them.")
    shape = _shape(size) if size is not None else None
    picture = read_photo(photo) if photo is not None else None
    spec = named if named is not None else option if option is not None else "builtin"
    vision = given.load_model(spec, weights, unsafe_pickle, for_photos=photo is not None)
    return vision, picture if picture is not None else trial_input(vision, shape)


def _shape(size: str) -> tuple[int, ...]:
    found = tuple(map(int, size.lower().split("x"))) if re.fullmatch(r"[0-9]+(x[0-9]+){1,2}", size.lower()) else ()
    if not found or 0 in found:
        raise WhycamError(
            f"--size is height x width, as 224x224, or channels x height x width, as 1x28x28; not {size!r}."
        )
    return found if len(found) == 3 else (3, *found)
