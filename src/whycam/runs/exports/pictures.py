"""A run as a folder of pictures: each map over its photo, in a folder for each class."""

from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.kit.files import Names
from whycam.pictures.photos import safe_name
from whycam.runs.exporting import Exported, Rows, beside_photos, with_maps
from whycam.runs.keeping import file_name, write_picture
from whycam.runs.looking import class_of


def write(run: Rows, folder: Path, photos: Any) -> Exported:
    """What `Run.to_pictures` does."""
    made, table, names = Exported(str(folder)), run.table, Names()
    classes = class_of(table)
    folders = {name: folder / names(safe_name(name) or "class") for name in sorted(classes.unique().to_pylist())}
    for each, numbers in beside_photos(table, photos, made):
        names = Names()
        for number in with_maps(table, numbers, made):
            explanation = run.explanation(number, each.photo)
            try:
                picture = explanation.overlay()
            except WhycamError as error:
                made.left_out.append((each.item.id, str(error)))
                continue
            file = f"{file_name(each.item.id)}.{names(explanation.method)}.jpg"
            write_picture(picture, folders[classes[number].as_py()] / file)
            made.count += 1
    return made
