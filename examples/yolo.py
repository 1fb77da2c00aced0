"""Why these boxes? A YOLO11: every box above a score by itself, and one without any gradient, by D-RISE.

ultralytics' package is AGPL, and no part of whycam; it is installed by itself:

    pip install ultralytics

The network is a toy, trained on drawn shapes by `toys/train_yolo.py` when this first runs, a minute or two, so that
nothing is downloaded; each map is strongest in its own box. Your own goes in its place as it is:
`whycam.compare(YOLO("yolo11n.pt"), photo, targets=[Boxes(min_score=0.5)])`.
"""

import sys
from pathlib import Path

import whycam
from whycam.targets import Box, Boxes

sys.path.insert(0, str(Path(__file__).parent / "toys"))
import shapes
import train_yolo

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

network = train_yolo.trained()
photo = shapes.photo(3)

c = whycam.compare(network, photo, targets=[Boxes(min_score=0.5)], preprocess=shapes.PREPARE)
for e in c.values():
    print(f"{e.target[0]} at {e.layer.name}: {e.status[0]}")
print(f"{len(c)} boxes, {c.cost}")
c.figure(on="photo").savefig(out / "yolo.png")

# With half of the picture hidden this network finds hardly a box, hence keep=0.8; for a map to trust take more masks.
sizes = {"samples": 150, "grid": 5, "keep": 0.8, "until": None}
masked = whycam.explain(network, photo, "d_rise", target=Box(0), preprocess=shapes.PREPARE, **sizes)
likeness = float(masked.values["split_half_correlation"][0])
print(f"D-RISE, {masked.target[0]}: {masked.status[0]}, two halves of its masks agree to {likeness:.2f}; {masked.cost}")
masked.figure().savefig(out / "yolo_d_rise.png")
