"""VGG-16: Grad-CAM and Grad-CAM++ at the last convolution side by side, and CAM refused with its reason.

CAM needs global average pooling and then one linear layer. VGG-16 has three linear layers, so its CAM does not exist.
"""

import sys
from pathlib import Path

import torch
import torchvision
from skimage.data import chelsea

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

# Random weights, so that nothing is downloaded. With your own: torchvision.models.vgg16(weights="DEFAULT")
torch.manual_seed(0)
model = torchvision.models.vgg16(weights=None).eval()

c = whycam.compare(
    model,
    chelsea(),
    methods=["Grad-CAM", "Grad-CAM++", "CAM"],
    layers=["features.28"],
    preprocess=whycam.Preprocess.imagenet(),
)
c.figure().savefig(out / "vgg_cam_refused.png")

for (method, layer, _), reason in c.failures.items():
    print(f"{method} at {layer}: {reason}")
