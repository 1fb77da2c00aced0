"""Where a command's figure goes."""

from pathlib import Path

from whycam.cli.arguments import make_folder
from whycam.errors import WhycamError


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
