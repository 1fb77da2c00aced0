"""Which of five methods to believe about these photos: a table beside maps that know nothing, and what it says.

With three photos the intervals are wide, and the recommendation says that no method can be called the best: take dozens
of your own. `folder=` keeps what is measured, so that a stopped run goes on.
"""

import sys
from pathlib import Path

from skimage.data import astronaut, chelsea, coffee

import whycam
from whycam.pictures.figures import save_figure

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")

photos = [chelsea(), coffee(), astronaut()]
methods = ["grad_cam", "hires_cam", "layer_cam", "eigen_cam", "guided_backprop"]
found = whycam.evaluate(
    "builtin", photos, methods, metrics=["insertion", "deletion", "average_drop"],
    options={"insertion": {"steps": 14}, "deletion": {"steps": 14}}, sanity=1, folder=out / "which_map",
)  # fmt: skip
print(found)

found.to_csv(out / "which_map.csv")
save_figure(found.figure(), out / "which_map.png")

# A metric alone, of maps of any library: one value for each photo
vision = whycam.load("builtin")
explained = whycam.explain(vision, photos, "grad_cam")
maps, inputs = explained.heatmaps(normalize="none"), explained.context.inputs
alone = whycam.metrics.deletion(maps, vision.module, inputs, steps=14)
print("deletion of Grad-CAM:", [round(each, 3) for each in alone.tolist()])
