"""All the models, by library."""

from compatibility import timm_zoo, torchvision_zoo, transformers_zoo
from compatibility.entry import Entry

LIBRARIES = {
    "timm": timm_zoo.entries,
    "torchvision": torchvision_zoo.entries,
    "video": torchvision_zoo.video_entries,
    "transformers": transformers_zoo.entries,
}


def zoo(library: str | None = None, match: str = "") -> list[Entry]:
    """The entries of one library, or of all, whose family or name contains `match`."""
    chosen = [library] if library is not None else list(LIBRARIES)
    return [entry for each in chosen for entry in LIBRARIES[each]() if match in entry.name or match in entry.family]
