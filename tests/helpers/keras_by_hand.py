"""Gradients of a Keras function of activations by the backend's own means, with nothing of whycam's."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def gradient(function: Callable[[Any], Any], activations: np.ndarray, index: int) -> np.ndarray:
    """Of the sum over samples of `function(activations)[:, index]`, in the layout of the activations."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        point = tf.constant(activations)
        with tf.GradientTape() as tape:
            tape.watch(point)
            score = tf.reduce_sum(function(point)[:, index])
        return tape.gradient(score, point).numpy()
    if backend == "jax":
        import jax

        return np.array(jax.grad(lambda point: function(point)[:, index].sum())(activations))
    import torch

    point = torch.tensor(activations, requires_grad=True)
    (found,) = torch.autograd.grad(function(point)[:, index].sum(), point)
    return found.numpy()


def as_numpy(value: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(value)


def grad_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Channels last: mean gradient of each channel times the channel, summed, positive part (Grad-CAM, eq. 1 and 2)."""
    weights = gradients.astype("float64").mean((1, 2), keepdims=True)
    return np.maximum((weights * activations.astype("float64")).sum(-1), 0)
