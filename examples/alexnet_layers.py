"""AlexNet, dog or cat, through its layers: Grad-CAM on the whole `features` block, LayerCAM at five depths, and fused.

AlexNet's ReLUs overwrite the convolutions' outputs in place; the maps are those of the outputs as they were. Below each
overlay stands its map's status.
"""

import sys
from pathlib import Path

import torch
import torchvision
from skimage.data import astronaut, chelsea, coffee

import whycam
from whycam.pictures.figures import save_figure

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")

# Random weights, since there is no trained dog-or-cat network to download. With your own, a line more:
# model.load_state_dict(torch.load("dog_or_cat.pt", weights_only=True))
torch.manual_seed(0)
model = torchvision.models.alexnet(weights=None, num_classes=2).eval()
photos = [chelsea(), coffee(), astronaut()]
how = {"preprocess": whycam.Preprocess.imagenet(), "labels": ["dog", "cat"]}

# The list inside the list is fused, the layers beside it stay separate; all six cost one forward and one backward
layers = [f"features.{i}" for i in (0, 3, 6, 9, 12)]
whole = whycam.explain(model, photos, "grad_cam", layer="features", **how)
each = whycam.compare(model, photos, ["layer_cam"], layers=[*layers, layers], fusion="tanh", **how)
print(f"LayerCAM at {len(layers)} layers and fused: {each.cost}")

save_figure(whole.figure(), out / "alexnet_layers.features.png")
save_figure(each.figure(sample=None, maps=True), out / "alexnet_layers.png")
