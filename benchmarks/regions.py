"""Whether a region's map lies in the region: shapes that the DeepLab of `examples/region.py` finds among others.

python benchmarks/regions.py

The network is trained by the example, in a quarter of a minute. For each shape whose middle is called what it is, in
scenes of several: the share of the map's positive part in its box, and how often its peak lies there.
"""

import runpy
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from cost import table
from peers import load_torchvision

import whycam
from whycam.targets import Region

EXAMPLES = Path(__file__).parents[1] / "examples"
METHODS = ("hires_cam", "layer_cam", "grad_cam")


def main() -> None:
    torch.set_num_threads(1)
    load_torchvision()
    with tempfile.TemporaryDirectory() as folder, patch.object(sys, "argv", ["region.py", folder]):
        done = runpy.run_path(str(EXAMPLES / "region.py"))
    deeplab, shapes = done["deeplab"], done["shapes"]
    explainer = whycam.Explainer(deeplab)
    rows: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    for seed in range(40):
        picture, found = shapes.scene(seed)
        batch = (picture * 4 - 2)[None]
        with torch.no_grad():
            top = deeplab(batch)["out"][0].argmax(0)
        for (left, upper, right, lower), label in zip(
            found["boxes"].int().tolist(), found["labels"].tolist(), strict=True
        ):
            point = ((left + right) // 2, (upper + lower) // 2)
            if len(found["boxes"]) < 2 or int(top[point[1], point[0]]) != label + 1:
                continue
            for method in METHODS:
                e = explainer.explain(batch, method, target=Region(label + 1, point=point))
                heat = e.heatmaps()[0].clamp(min=0)
                row, column = divmod(int(heat.argmax()), heat.shape[1])
                inside = upper <= row <= lower and left <= column <= right
                rows[method].append((float(heat[upper:lower, left:right].sum() / heat.sum()), float(inside)))
    table(
        [
            {"method": method, "shapes": len(every), "in its box": f"{share:.2f}", "peak": f"{peak:.2f}"}
            for method, every in rows.items()
            for share, peak in [torch.tensor(every).mean(0).tolist()]
        ]
    )


if __name__ == "__main__":
    main()
