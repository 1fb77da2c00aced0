"""Makes the parts of the documentation that are drawn from the code: the README's methods table and pictures.

`python docs/generate.py` writes them; the test suite checks that the table is up to date.
"""

import re
from pathlib import Path

import stub  # beside this file

import whycam
from whycam.kit.registry import Method

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- methods: made by docs/generate.py -->", "<!-- end of methods -->"


def methods_table() -> str:
    """The methods as a Markdown table."""
    lines = ["| name | title | explains a class | needs | options | paper |", "| --- | --- | --- | --- | --- | --- |"]
    for method in whycam.list_methods():
        needs = ", ".join(f"`{name}`" for name in sorted(method.needs))
        options = ", ".join(f"`{option}`" for option in method.options.values()) or "-"
        specific = "yes" if method.class_specific else "no"
        lines.append(f"| `{method.name}` | {method.title} | {specific} | {needs} | {options} | {_link(method)} |")
    return "\n".join(lines)


def _link(method: Method) -> str:
    kind, _, number = method.paper.partition(":")
    if kind == "arXiv":
        return f"[{method.paper}](https://arxiv.org/abs/{number})"
    return f"[{method.paper}](https://doi.org/{number})" if kind == "doi" else method.paper


def with_table(readme: str) -> str:
    """The README's text with its methods table renewed."""
    return re.sub(f"{BEGIN}.*{END}", f"{BEGIN}\n{methods_table()}\n{END}", readme, flags=re.DOTALL)


def pictures() -> None:
    """The README's pictures, from scikit-image's photos and the built-in network."""
    import numpy as np
    import skimage.data

    from whycam.pictures.figures import to_png

    folder = ROOT / "docs" / "images"
    model = whycam.load("builtin")
    names = ["grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus", "xgrad_cam", "cam", "guided_grad_cam"]
    _write(folder / "methods.jpg", to_png(whycam.compare(model, skimage.data.chelsea(), names).figure()))
    scene = np.stack([skimage.data.camera()] * 3, -1)
    asked = whycam.compare(model, scene, ["grad_cam"], targets=["tripod", "reflex camera"])
    _write(folder / "scene.jpg", to_png(asked.figure()))
    _write(folder / "four-panels.jpg", to_png(whycam.explain(model, skimage.data.coffee()).figure()))


def _write(path: Path, png: bytes) -> None:
    import io

    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((1400, 1400))
    image.save(path, quality=85, optimize=True)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text()))
    stub.write()
    pictures()
