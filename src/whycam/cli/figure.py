"""Where a command's figure goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from whycam.cli.arguments import make_folder
from whycam.errors import WhycamError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any  # an extra


def figure_path(output: Path, name: str) -> Path:
    """`output` if it names a file, else a file of that name in that folder; folders are made.

    Raises:
        WhycamError: a suffix that no figure can have, or a folder that cannot be made.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    if output.is_dir() or not output.suffix:
        make_folder(output)
        return output / name
    kinds = FigureCanvasBase.get_supported_filetypes()
    if output.suffix.lower().lstrip(".") not in kinds:
        raise WhycamError(
            f"{output}: a figure is written as one of {', '.join(sorted(kinds))}; give the file such a suffix."
        )
    make_folder(output.parent)
    return output


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure.

    Raises:
        WhycamError: the file cannot be written.
    """
    from whycam.pictures.figures import save_figure

    try:
        save_figure(figure, path)
    except OSError as error:
        raise WhycamError(f"{path} cannot be written: {error.strerror or error}.") from None
