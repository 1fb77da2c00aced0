"""A run as a folder of pictures: each map over its photo, in a folder for each class."""

import io
from pathlib import Path
from typing import Any

from whycam.errors import WhycamError
from whycam.kit.files import Names, disk_errors_said, write_whole
from whycam.pictures.photos import safe_name
from whycam.runs.exporting import Exported, Rows, beside_photos, class_of, with_maps


def write(run: Rows, folder: Path, photos: Any) -> Exported:
    """What `Run.to_pictures` does."""
    made, table = Exported(str(folder)), run.table
    classes, names = class_of(table), Names()
    folders = {name: folder / names(safe_name(name) or "class") for name in sorted(classes.unique().to_pylist())}
    taken = {name: Names() for name in folders}
    for each, numbers in beside_photos(table, photos, made):
        for number in with_maps(table, numbers, made):
            explanation, name = run.explanation(number, each.photo), classes[number].as_py()
            picture = io.BytesIO()
            try:
                explanation.overlay().save(picture, "jpeg", quality=90)
            except WhycamError as error:
                made.left_out.append((each.item.id, str(error)))
                continue
            file = taken[name](f"{safe_name(each.item.id)}.{explanation.method}")
            with disk_errors_said(folder):
                write_whole(folders[name] / f"{file}.jpg", picture.getvalue())
            made.count += 1
    return made
