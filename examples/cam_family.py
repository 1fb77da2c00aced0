"""CAM, Grad-CAM and Grad-CAM++ side by side, on a network with global average pooling, where all three exist.

At the same layer, CAM and Grad-CAM are the same map up to a factor and to what Grad-CAM cuts off below zero.
"""

import sys
from pathlib import Path

from skimage.data import chelsea

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

# ":input" is what a module is given: here the feature that the pooling averages
c = whycam.compare("builtin", chelsea(), ["cam", "grad_cam", "grad_cam_plus_plus"], layers=["_avg_pooling:input"])
c.figure().savefig(out / "cam_family.png")

cam, grad_cam = c["cam"].heatmaps(), c["grad_cam"].heatmaps()
print(f"CAM and Grad-CAM differ by at most {(cam - grad_cam).abs().max():.1e}; {c.cost} for all three")
