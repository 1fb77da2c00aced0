"""Keras networks, and torch networks with the same weights."""

from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor, nn

BACKEND = keras.config.backend()
CLASSES = 5
layers = keras.layers


class Torch(nn.Module):
    """Convolution, ReLU, pooling, convolution, batch normalization, ReLU, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8, eps=1e-3)
        self.relu2 = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        return self.relu2(self.norm(self.conv2(self.pool(self.relu1(self.conv1(x))))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mean(self.features(x)).flatten(1))


def plain_torch(seed: int = 0) -> Torch:
    """The torch network, its weights drawn from the seed and large enough to matter."""
    model = Torch().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan) ** 0.5)
        model.norm.running_mean.copy_(torch.randn(8, generator=generator) * 0.1)
        model.norm.running_var.copy_(torch.rand(8, generator=generator) + 0.5)
    return model


def plain_layers(data_format: str = "channels_last", activation: str | None = "softmax") -> list[Any]:
    """The same as Keras layers."""
    axis = -1 if data_format == "channels_last" else 1
    return [
        layers.Conv2D(6, 3, padding="same", data_format=data_format, name="conv1"),
        layers.ReLU(name="relu1"),
        layers.MaxPooling2D(2, data_format=data_format, name="pool"),
        layers.Conv2D(8, 3, padding="same", data_format=data_format, name="conv2"),
        layers.BatchNormalization(axis=axis, name="norm"),
        layers.ReLU(name="relu2"),
        layers.GlobalAveragePooling2D(data_format=data_format, name="mean"),
        layers.Dense(CLASSES, activation=activation, name="head"),
    ]


def shape_of(data_format: str, side: int | None = 12) -> tuple[int | None, ...]:
    return (side, side, 3) if data_format == "channels_last" else (3, side, side)


def functional(
    data_format: str = "channels_last",
    activation: str | None = "softmax",
    name: str = "plain",
    side: int | None = 12,
) -> Any:
    inputs = x = keras.Input(shape_of(data_format, side), name="picture")
    for layer in plain_layers(data_format, activation):
        x = layer(x)
    return keras.Model(inputs, x, name=name)


def sequential(activation: str | None = "softmax") -> Any:
    return keras.Sequential([keras.Input(shape_of("channels_last")), *plain_layers(activation=activation)], name="row")


class Subclassed(keras.Model):
    """The same, as a class of one's own."""

    def __init__(self, activation: str | None = "softmax") -> None:
        super().__init__(name="own")
        self.parts = plain_layers(activation=activation)

    def call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x


def subclassed(activation: str | None = "softmax") -> Any:
    model = Subclassed(activation)
    model(np.zeros((1, 12, 12, 3), "float32"))
    return model


def with_weights(model: Any, torch_model: nn.Module, find: Any = None) -> Any:
    """The Keras model with the torch model's weights, by the layers' names."""
    find = find or finder(model)
    for name, module in torch_model.named_children():
        layer = find(name)
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            kernel = module.weight.detach()
            kernel = kernel.permute(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
            layer.set_weights([kernel.numpy(), module.bias.detach().numpy()])
        if isinstance(module, nn.BatchNorm2d):
            values = (module.weight, module.bias, module.running_mean, module.running_var)
            layer.set_weights([value.detach().numpy() for value in values])
    return model


def finder(model: Any) -> Any:
    """Layers by name, wherever they are inside."""
    known = {layer.name: layer for layer in model._flatten_layers()}
    return known.__getitem__


def pictures(samples: int = 3, side: int = 12, seed: int = 1) -> Tensor:
    """A batch (N, C, H, W) with values as pictures have them after normalizing."""
    return torch.randn(samples, 3, side, side, generator=torch.Generator().manual_seed(seed))


def last(batch: Tensor) -> np.ndarray:
    """The batch as callers of Keras have it."""
    return np.ascontiguousarray(batch.movedim(1, -1).numpy())


def apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().amax() / wanted.abs().amax().clamp(min=1e-12))
