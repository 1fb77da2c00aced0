"""Keras models: VGG16 at `block5_conv3`, where CAM does not exist, and MobileNetV2, where CAM and Grad-CAM agree.

Layers are named as Keras names them, photos are prepared as keras.applications does, and the final softmax is left out,
so that what is explained is the logit.
"""

import os
import sys
from pathlib import Path

from skimage.data import chelsea

import whycam

os.environ.setdefault("KERAS_BACKEND", "torch")  # tensorflow and jax do as well; read when keras is imported
import keras

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

# Random weights, so that nothing is downloaded. With your own: weights="imagenet", and classes= left out
keras.utils.set_random_seed(0)
vgg = keras.applications.VGG16(weights=None, classes=10)
mobilenet = keras.applications.MobileNetV2(weights=None, classes=10)
methods = ["cam", "grad_cam", "grad_cam_plus_plus"]

refused = whycam.compare(vgg, chelsea(), methods, layers=["block5_conv3"])
refused.figure().savefig(out / "keras_vgg_and_mobilenet.vgg.png")
for (method, layer, _), reason in refused.failures.items():
    print(f"{vgg.name}: {method} at {layer}: {reason}")

# No layer named: the last feature is chosen. It is what the global average pooling averages, so CAM exists
c = whycam.compare(mobilenet, chelsea(), methods)
c.figure().savefig(out / "keras_vgg_and_mobilenet.png")
for e in c.values():
    print(f"{mobilenet.name}: {e.title} at {e.layer}: {e.status[0]}")
print(f"{c.cost} for all three")
