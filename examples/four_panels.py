"""The four panels: photo, map at the layer's resolution, the map resized, overlay. By a trained mobile network.

`"builtin"` is a small mobile network with its ImageNet weights, so this picture means something as it is.
"""

import sys
from pathlib import Path

import torch
import torchvision
from skimage.data import chelsea

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

e = whycam.explain("builtin", chelsea())
e.figure().savefig(out / "four_panels.png")
print(f"{e.predictions[0]}, explained at {e.layer}: {e.layer.why}")

# Any other network in the same way, here MobileNetV3 with random weights, so that nothing is downloaded.
# With your own: torchvision.models.mobilenet_v3_large(weights="DEFAULT")
torch.manual_seed(0)
model = torchvision.models.mobilenet_v3_large(weights=None).eval()
e = whycam.explain(model, chelsea(), preprocess=whycam.Preprocess.imagenet())
e.figure().savefig(out / "four_panels_mobilenet_v3.png")
print(f"{e.model}, explained at {e.layer}: {e.layer.why}")
