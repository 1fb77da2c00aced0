"""A small Keras network learns to read digits, is saved, loaded as `keras:PATH` and asked which strokes it goes by.

It is trained here, within half a minute, so the maps mean something. How much is measured: strokes are wiped out where
CAM says that they matter, and elsewhere.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import whycam

os.environ.setdefault("KERAS_BACKEND", "torch")  # tensorflow and jax do as well; read when keras is imported
import keras
from keras.layers import Conv2D, Dense, GlobalAveragePooling2D

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

# 8x8 pixels of 0 to 16, each made 4x4: (N, 32, 32, 1), the channels last, as Keras has them
digits = load_digits()
images = np.kron(digits.images, np.ones((4, 4)))[..., None].astype("float32")
train, test, train_digits, test_digits = train_test_split(images, digits.target, random_state=0)

keras.utils.set_random_seed(0)
how = {"padding": "same", "activation": "relu", "use_bias": False, "kernel_initializer": "he_normal"}
convolutions = [Conv2D(16, 3, strides=2, **how), Conv2D(32, 3, **how), Conv2D(64, 3, strides=2, **how)]
head = [GlobalAveragePooling2D(), Dense(10, activation="softmax")]
model = keras.Sequential([keras.Input((32, 32, 1)), *convolutions, *head])
model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, train_digits, epochs=15, verbose=0)
print(f"test accuracy: {model.evaluate(test, test_digits, verbose=0)[1]:.1%}")

with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder, "digits.keras"))
    loaded = whycam.load(f"keras:{folder}/digits.keras")

one_of_each = test[[list(test_digits).index(digit) for digit in range(10)]]
c = whycam.compare(loaded, one_of_each, ["cam", "grad_cam", "layer_cam"], labels=[*"0123456789"])
c.figure(sample=None).savefig(out / "keras_digits.png")
print(f"explained at {c['cam'].layer}: {c['cam'].layer.why}")

e = whycam.explain(loaded, test, "cam")
evidence = e.heatmaps(normalize="none").numpy()
read = model.predict(test, verbose=0).argmax(1)


def probability(pictures):
    """Of the digits that were read at first."""
    return model.predict(pictures, verbose=0)[range(len(test)), read].mean()


def wiped(importance):
    """The pictures without the 100 most important pixels of their strokes, a quarter of them."""
    order = np.where(test[..., 0] > 4, importance, -np.inf).reshape(len(test), -1).argsort(1)
    pictures = test.reshape(len(test), -1).copy()
    np.put_along_axis(pictures, order[:, -100:], 0, 1)
    return pictures.reshape(test.shape)


before, marked = probability(test), probability(wiped(evidence))
random = probability(wiped(np.random.default_rng(0).random(evidence.shape)))
another = probability(wiped(np.roll(evidence, 1, 0)))
print(
    f"probability of the digit: {before:.0%}; {marked:.0%} without the strokes where its CAM is highest, "
    f"{another:.0%} without those where another picture's is, {random:.0%} without as many pixels at random"
)
