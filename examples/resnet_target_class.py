"""ResNet-18 asked about a class of your choice, drawn with your own matplotlib code and a color bar."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torchvision
from skimage.data import chelsea

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

# Random weights, so that nothing is downloaded. With your own: torchvision.models.resnet18(weights="DEFAULT")
torch.manual_seed(0)
model = torchvision.models.resnet18(weights=None).eval()
labels = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]

photo = chelsea()
# The whole photo is squeezed into the network's input, so a heat map of the photo's size lies right on the photo
squeeze = whycam.Preprocess((224, 224), "stretch")
e = whycam.explain(model, photo, target="Egyptian cat", layer="layer4", preprocess=squeeze, labels=labels)
heat = e.heatmaps(size=photo.shape[:2])[0].numpy()

plt.figure(figsize=(7, 4))
plt.imshow(photo)
plt.imshow(heat, cmap="jet", alpha=0.5, vmin=0, vmax=1)
plt.colorbar(label="evidence, 1 at the strongest place")
plt.title(f"{e.title} of {e.target[0]} at {e.layer.name}")
plt.axis("off")
plt.savefig(out / "resnet_target_class.png", bbox_inches="tight")

print(f"score of {e.target[0]}: {e.scores[0]:.3f}; raw map {tuple(e.maps.shape)}, drawn at {heat.shape}")
