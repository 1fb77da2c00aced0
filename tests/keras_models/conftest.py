"""Tests of Keras models run on the backend that KERAS_BACKEND names, torch's unless told otherwise.

A backend is fixed when Keras is imported, so `make test` runs this folder once for each, in a process of its own.
"""

import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True)
def weights_that_repeat() -> None:
    """The same random weights in every run."""
    import keras

    keras.utils.set_random_seed(0)
