"""Grad-CAM at MobileNetV2's last block, laid over the photo in the jet palette: 0.3 heat map + 0.7 photo, as a JPEG."""

import sys
from pathlib import Path

import torch
import torchvision
from skimage.data import chelsea

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

# Random weights, so that nothing is downloaded. With your own: torchvision.models.mobilenet_v2(weights="DEFAULT")
torch.manual_seed(0)
model = torchvision.models.mobilenet_v2(weights=None).eval()

e = whycam.explain(model, chelsea(), layer=model.features[-1], preprocess=whycam.Preprocess.imagenet())
e.overlay(colormap="jet", opacity=0.3, blend="even", enlarge="bilinear").save(out / "mobilenet_overlay.jpg")

print(f"{e.predictions[0]}, explained at {e.layer}: {e.status[0]}")
