"""Why is this disc called an alarm? A U-Net whose answer is decided by a marker far from what it paints.

Local gradients, at the bottleneck, behind it or early, lie on the disc or nowhere in particular. The mean along the
path from a blank picture finds the marker, at an early layer; recoloring the marker shows that it is the cause. The
network is a toy, trained by `toys/train_marker.py`, so that the cause is known.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import whycam
from whycam.targets import Region

sys.path.insert(0, str(Path(__file__).parent / "toys"))
import marker

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

unet = marker.segmenter()
scene = marker.scene(3, "red")
batch = scene.picture()[None]
row, column, _ = scene.disc
for color in ("red", "green", "none"):
    with torch.no_grad():
        answer = unet(scene.recolored(color).picture()[None])[0].argmax(0)
    print(f"with a marker of color {color} the disc is called {marker.NAMES[answer[row, column]]}")

region = Region(1, point=(column, row))
usual = whycam.compare(unet, batch, ["layer_cam"], targets=[region], labels=marker.NAMES)
early = whycam.explain(unet, batch, "layer_cam", target=region, layer="encoder.1", labels=marker.NAMES)
along = whycam.explain(unet, batch, "layer_cam", target=region, layer="encoder.1", path=20, labels=marker.NAMES)
maps = {f"{e.layer.name}, {'x'.join(map(str, e.layer.grid))}": e for e in usual.values()}
maps |= {"encoder.1": early, "encoder.1, path=20": along}
for name, e in maps.items():
    heat = e.heatmaps()[0].clamp(min=0)
    print(f"{name}: {float(heat[scene.marked()].sum() / heat.sum()):.0%} of the evidence on the marker, {e.status[0]}")

figure, axes = plt.subplots(1, 5, figsize=(15, 3.4), layout="constrained")
axes[0].imshow(batch[0].permute(1, 2, 0))
axes[0].set_title("the scene")
for axis, (name, e) in zip(axes[1:], maps.items(), strict=True):
    axis.imshow(e.overlay())
    axis.set_title(name)
for axis in axes:
    axis.axis("off")
figure.savefig(out / "unet.png", dpi=100)
