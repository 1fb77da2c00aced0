"""`keras:PATH`: a saved Keras 3 model; and Keras models that callers pass as objects."""

import importlib.util
import os
import re
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whycam.errors import ModelError
from whycam.kit.files import at_home
from whycam.kit.words import first_line
from whycam.models.packages import optional
from whycam.models.vision_model import VisionModel
from whycam.models.weights import ChosenWeights

PREFIX = "keras"
FORM = "'keras:PATH'"
_PURPOSE = "a Keras model"
_SUFFIXES = (".keras", ".h5", ".hdf5")

#: The trees of modules made for models that callers passed, so that what is found out about one is found out once.
_adopted: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


def source(spec: str, weights: ChosenWeights) -> VisionModel:
    """The model saved at the path, in evaluation, without its optimizer.

    Raises:
        WhycamError: no such file, no model in it, or one that needs code of the caller's own (`custom_objects`), or
            code that is stored in the file.
        MissingExtraError: Keras or its backend is not installed.
    """
    name = spec.partition(":")[2]
    if weights.random:
        raise ModelError(f"{spec!r}: 'random' weights are for models by name, and this is a file.")
    if weights.given:
        raise ModelError(f"{spec!r} comes with its weights; leave weights= out, or load others with Keras itself.")
    if not name:
        raise ModelError("'keras:' takes the path of a saved model, such as 'keras:model.keras'.")
    return _wrapped(saved(at_home(name), weights.custom_objects), name=Path(name).stem)


def saved(path: Path, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The Keras model in a file.

    Args:
        custom_objects: classes and functions by the names under which they were saved.
    """
    if not path.exists():
        raise ModelError(f"there is no file {path}; 'keras:' takes the path of a saved model, such as model.keras.")
    if path.suffix not in _SUFFIXES:
        raise ModelError(
            f"{path.name} is no saved Keras model: those end in {', '.join(_SUFFIXES)}. A folder is TensorFlow's "
            "SavedModel, which holds no layers; load the model with the code that made it, and save it as .keras."
        )
    keras = keras_package()
    try:
        return keras.saving.load_model(path, custom_objects=dict(custom_objects or {}), compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds for what does not fit
        raise ModelError(_refusal(path, error)) from error


def _refusal(path: Path, error: Exception) -> str:
    said = str(error).strip()
    if "safe_mode" in said or "unsafe" in said.lower():
        return (
            f"{path.name} holds code (a Lambda layer), which is not run: whoever made the file could then do anything "
            "on this machine. If you trust it, load it with keras.saving.load_model(path, safe_mode=False) and pass "
            "the model."
        )
    absent = re.search(r"(?:Could not locate (?:class|function)|Unknown (?:layer|object)):? '([^']+)'", said)
    if absent is not None or "custom" in said:
        name = absent[1] if absent is not None else "Name"
        return (
            f"{path.name} needs {name if absent is not None else 'classes or functions'}, which is not Keras' own. "
            f"Pass it: whycam.load(spec, custom_objects={{{name!r}: {name}}})."
        )
    if path.name.endswith(".weights.h5") or "No model config" in said:
        return (
            f"{path.name} holds weights alone; build the model, load them with model.load_weights, and pass the model."
        )
    return f"{path.name} cannot be read as a Keras model: {type(error).__name__}: {first_line(error)[:300]}"


def keras_package() -> Any:
    """Keras; where nobody chose a backend, with torch's, which is there.

    Raises:
        MissingExtraError: it is not installed, or its backend is not.
    """
    chosen = "KERAS_BACKEND" in os.environ or (_home() / "keras.json").exists() or "keras" in sys.modules
    if not chosen and importlib.util.find_spec("tensorflow") is None:
        os.environ["KERAS_BACKEND"] = "torch"  # read when Keras is imported, and no later
    return optional("keras", "keras", _PURPOSE)


def _home() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))


def from_object(model: object) -> VisionModel | None:
    """A Keras model that a caller passed, if it is one.

    Raises:
        WhycamError: a model of Keras 2, one that has no weights yet, or a layer that is no model.
    """
    homes = {each.__module__.partition(".")[0] for each in type(model).__mro__ if each.__name__ == "Layer"}
    if homes & {"tf_keras", "tensorflow"} and "keras" not in homes:
        raise ModelError(
            "this is a model of Keras 2 (tf_keras); save it as .h5 and load it with Keras 3, or 'keras:PATH'."
        )
    if "keras" not in homes:
        return None
    return _wrapped(model)


def _wrapped(model: Any, *, name: str = "") -> VisionModel:
    keras = keras_package()
    if not isinstance(model, keras.Model):
        raise ModelError(f"a keras.Model was expected, not a {type(model).__name__} layer; wrap it in a keras.Model.")
    unbuilt = not model.built or (not model.weights and not model.layers)
    if unbuilt:
        raise ModelError(
            f"this {type(model).__name__} has no weights yet: Keras makes them, at random, when the model first runs. "
            "Run it once, or load its weights, then explain it."
        )
    from whycam.models import keras_applications
    from whycam.network.keras.network import KerasNetwork

    network = _adopted.get(model)
    if network is None or network.changed():
        _adopted[model] = network = KerasNetwork(model)
    preprocess, note = keras_applications.preprocess(model, network.channels_last)
    shape = keras_applications.input_shape(model, network.channels_last)
    return VisionModel(
        network,
        preprocess,
        keras_applications.labels(model),
        name or str(model.name),
        preprocess_note=note,
        ready=lambda inputs: ready(model, network.channels_last, inputs),
        input_shape=tuple(side for side in shape if side is not None) if shape and None not in shape else None,
        owner=model,
    )


def ready(model: Any, channels_last: bool, inputs: Any) -> Any:
    """A ready batch as callers of Keras have it, as tensors `(N, C, *spatial)`; photos as they are."""
    shapes = [tuple(each.shape) for each in getattr(model, "inputs", None) or ()]
    if isinstance(inputs, Mapping):
        return {key: _ready(value, None, channels_last) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)) and inputs and all(_is_batch(each) for each in inputs) and len(shapes) > 1:
        by_input = zip(inputs, [*shapes, *[None] * len(inputs)], strict=False)
        return tuple(_ready(each, shape, channels_last) for each, shape in by_input)
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1 and _is_batch(inputs[0]):
        inputs = inputs[0]  # as Keras takes it
    if isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8 and inputs.ndim == 4 and inputs.shape[-1] == 3:
        return list(inputs)
    return _ready(inputs, shapes[0] if shapes else None, channels_last) if _is_batch(inputs) else inputs


def _is_batch(value: Any) -> bool:
    """Whether this is an array of any library, and no photo."""
    photo = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim < 4
    return hasattr(value, "shape") and not photo


def _ready(value: Any, shape: tuple[int | None, ...] | None, channels_last: bool) -> Any:
    if not hasattr(value, "shape"):
        return value
    if not isinstance(value, Tensor):
        value = torch.from_numpy(np.array(value.numpy() if hasattr(value, "numpy") else value))
    tensor: Tensor = value
    if tensor.dtype == torch.float64 and keras_package().config.floatx() == "float32":
        tensor = tensor.float()  # as Keras does before the first layer
    came = tuple(tensor.shape)
    turns = channels_last and tensor.is_floating_point() and tensor.ndim > 2
    if shape is None:
        return tensor.movedim(-1, 1) if turns and came[-1] <= 4 < came[1] else tensor
    if _fits(came, shape):
        return tensor.movedim(-1, 1) if turns else tensor
    if turns and _fits(tuple(tensor.movedim(1, -1).shape), shape):
        return tensor
    wanted = ", ".join("any" if side is None else str(side) for side in shape[1:])
    raise ModelError(f"this model takes batches of shape (N, {wanted}); one of shape {came} came.")


def _fits(came: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    """Whether a batch has the shape that a model was built for, whatever its number of samples."""
    return len(came) == len(shape) and all(side in (None, here) for here, side in zip(came[1:], shape[1:], strict=True))
