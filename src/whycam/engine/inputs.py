"""What callers pass as `inputs`, made into what the network takes: a ready batch, or photos."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from whycam.errors import InputError, WhycamError
from whycam.models.conversion import name_of
from whycam.models.vision_model import VisionModel
from whycam.network.canvas import canvas_of
from whycam.network.input_axes import space_axes
from whycam.network.model_tree import tree_of
from whycam.network.pytree import first_tensor, mapped, replaced, spell, tensors
from whycam.network.recording.record import Inputs
from whycam.network.recording.views import View
from whycam.pictures.geometry import Geometry
from whycam.pictures.input_context import InputContext
from whycam.pictures.measured import Measured, measure
from whycam.pictures.media import Medium, Volume
from whycam.pictures.nifti import ENDINGS as VOLUMES
from whycam.pictures.photos import Photo, read_photo
from whycam.pictures.preprocess import Preprocess

#: A picture that a network looks at: an input by position or name, or `(N, C, *spatial)` itself.
ViewLike: TypeAlias = int | str | Tensor
PhotoLike: TypeAlias = str | Path | Image.Image | np.ndarray[Any, Any] | Photo


@dataclass(frozen=True)
class Batch:
    """The network's inputs, on its device, and the context they show."""

    inputs: Inputs
    context: InputContext
    views: tuple[View, ...] | None = None

    def with_picture(self, picture: Tensor) -> "Batch":
        """The same batch with other numbers in the (first) input."""
        path = next(path for path, tensor in tensors(self.inputs) if tensor is self.context.inputs)
        return replace(self, inputs=replaced(self.inputs, path, picture), context=replace(self.context, inputs=picture))


def with_first(module: nn.Module, inputs: Any, picture: int | str) -> dict[str, Any]:
    """Several inputs as keyword arguments, with the one that is asked about first: methods at the input read that one.

    Raises:
        InputError: a single input, an input that does not exist, or one with fewer axes than the pictures beside it.
    """
    if isinstance(inputs, tuple):
        known = inspect.signature(module.forward).parameters.values()
        names = [each.name for each in known if each.kind is each.POSITIONAL_OR_KEYWORD]
        if len(names) < len(inputs):
            raise InputError(
                f"{len(inputs)} inputs came, and the network takes {len(names)} by name, so none can be put first; "
                "leave picture out, or wrap the network in one that names its inputs."
            )
        inputs = dict(zip(names, inputs, strict=False))
    if not isinstance(inputs, Mapping):
        raise InputError(f"picture={picture!r} chooses among several inputs, and one came; leave it out.")
    names = list(inputs)
    inside = isinstance(picture, int) and -len(names) <= picture < len(names)
    key = names[picture] if isinstance(picture, int) and inside else picture
    if key not in inputs:
        raise InputError(f"picture={picture!r} is no input; there are {', '.join(map(str, names))}.")
    ahead = {str(key): inputs[key], **inputs}
    if not isinstance(inputs[key], Tensor) or first_tensor(ahead) is not inputs[key]:
        raise InputError(f"picture={picture!r} is no picture: a floating-point tensor with as many axes as any other.")
    return ahead


def make_batch(model: VisionModel, inputs: Any, views: Sequence[ViewLike] | None = None) -> Batch:
    """A ready batch as it is, or photos through the model's preprocessing.

    Args:
        views: what each pass of the batch through a layer looks at, as `explain` takes it.

    Raises:
        WhycamError: views that are no picture of these inputs, inputs of another kind, a single image without its batch
            axis, or photos for a model without preprocessing.
        PhotoError: a photo that cannot be read.
    """
    return _on_canvas(model, _made(model, inputs, views))


def _made(model: VisionModel, inputs: Any, views: Sequence[ViewLike] | None) -> Batch:
    device = device_of(model.module)
    if model.ready is not None:
        inputs = model.ready(inputs)
    media = None
    if not isinstance(inputs, Tensor):
        inputs, media = _medium(inputs)
    if isinstance(inputs, Tensor):
        _check_tensor(inputs, model.module)
        ready = inputs.to(device)
        context = InputContext(ready, space=space_axes(model.module, ready), media=media)
        return _viewed(Batch(ready, context), views)
    if isinstance(inputs, Mapping) or (isinstance(inputs, tuple) and any(True for _ in tensors(inputs))):
        _check_several(inputs, model.module)
        moved: Inputs = mapped(inputs, lambda tensor: tensor.to(device))
        first = first_tensor(moved)
        context = InputContext(first, space=space_axes(model.module, first), media=media)
        return _viewed(Batch(moved, context), views)
    return _viewed(_photos(model, inputs if isinstance(inputs, (list, tuple)) else [inputs], device), views)


def _medium(inputs: Any) -> tuple[Any, tuple[Medium, ...] | None]:
    """The tensor of a medium, of one among several inputs, or of a list of volumes; and the medium of each sample."""
    several = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    if isinstance(inputs, Medium):
        return inputs.tensor, (inputs,) * len(inputs.tensor)
    if isinstance(inputs, Mapping) and (found := [each for each in inputs.values() if isinstance(each, Medium)]):
        plain = {name: each.tensor if isinstance(each, Medium) else each for name, each in inputs.items()}
        return plain, (found[0],) * len(found[0].tensor)
    if several and all(isinstance(each, Volume) for each in several):
        media = tuple(each for each in several for _ in each.tensor)
        return _stack([each for volume in several for each in volume.tensor]), media
    return inputs, None


def _viewed(batch: Batch, views: Sequence[ViewLike] | None) -> Batch:
    """The batch with the caller's views found among its inputs."""
    if views is None:
        return batch
    if isinstance(views, (str, Tensor)) or not isinstance(views, Sequence) or not views:
        raise InputError("views is a list with one entry for each call of the layer, such as views=[1, 0].")
    known = {spell(path): tensor for path, tensor in tensors(batch.inputs)}
    made = []
    for number, each in enumerate(views):
        if isinstance(each, Tensor):
            made.append(View(f"views[{number}]", each.to(batch.context.inputs.device)))
            continue
        name = f"[{each}]" if isinstance(each, int) else f".{str(each).lstrip('.')}"
        if name not in known and str(each) not in known:
            listed = ", ".join(known) if "" not in known else "no name: it is one tensor; pass pictures, such as "
            listed += "inputs.unbind(1)" if "" in known else ""
            raise InputError(f"views names {each!r}, which is no input; there is {listed}.")
        name = name if name in known else str(each)
        made.append(View(name, known[name]))
    for view in made:
        if view.picture.ndim < 3 or not view.picture.is_floating_point():
            raise InputError(
                f"a view is a picture, a floating-point tensor (N, C, *spatial); {view.name} is {view.picture.dtype} "
                f"of shape {tuple(view.picture.shape)}."
            )
    return replace(batch, views=tuple(made))


def _photos(model: VisionModel, sources: Sequence[Any], device: torch.device) -> Batch:
    for source in sources:
        if isinstance(source, Tensor):
            raise InputError(
                "a list of tensors came; stack them into one batch with torch.stack, shape (N, C, H, W), or pass a "
                "tuple of batches to a network that takes several inputs."
            )
        if not isinstance(source, (str, Path, Image.Image, np.ndarray, Photo)):
            raise InputError(
                "inputs are a tensor (N, C, *spatial), a tuple or dict of tensors, or photos (paths, PIL images, uint8 "
                f"arrays; one or a list of them), not {type(source).__name__}."
            )
        if isinstance(source, (str, Path)) and str(source).endswith(VOLUMES):
            raise InputError(
                f"{source}: read it with whycam.read_volume, which leaves its values as they are; then pass a "
                "whycam.Volume with the values that the network expects, and the same affine."
            )
    if not sources:
        raise InputError("no inputs came: an empty list.")
    if model.preprocess is None:
        raise InputError(
            "photos came, but this model does not say how a photo becomes its input; pass preprocess=, for example "
            "whycam.Preprocess.imagenet(), or a ready batch, shape (N, C, H, W)."
        )
    photos = tuple(source if isinstance(source, Photo) else read_photo(source) for source in sources)
    if isinstance(model.preprocess, Preprocess):
        return _of_prepared(model, [model.preprocess(photo) for photo in photos], photos, device)
    dtype = _dtype(model.module)
    prepare = prepared_by(model)
    ready = [prepare(photo.image) for photo in photos]
    batch = _stack(ready).to(device, dtype)
    each: list[Measured] = []
    settings = repr(model.preprocess)  # which a library's transform shows, and which may change
    try:
        for photo, tensor in zip(photos, ready, strict=True):
            key = settings, photo.size, tensor.shape
            if key not in model.measured:
                model.measured[key] = measure(prepare, photo.size)
            each.append(model.measured[key])
            each[-1].check(photo.image, tensor)
    except Exception as error:  # the function's own, which may not bear other pictures than photos
        why = f"photos are prepared by {name_of(model.preprocess)}, and where the input lies on the photo is not known"
        return Batch(batch, InputContext(batch, photos, note=f"{why}: {error}"))
    return Batch(batch, InputContext(batch, photos, tuple(one.geometry for one in each), each[0]))


def prepared_batch(
    model: VisionModel, prepared: Sequence[tuple[Tensor, Geometry]], photos: tuple[Photo, ...] | None = None
) -> Batch:
    """A batch of photos that the model's `Preprocess` has been applied to, elsewhere.

    Args:
        photos: to draw on, which may have been made smaller since.
    """
    return _on_canvas(model, _of_prepared(model, prepared, photos, device_of(model.module)))


def _on_canvas(model: VisionModel, batch: Batch) -> Batch:
    canvas = canvas_of(model.module, batch.context.inputs)
    return batch if canvas is None else replace(batch, context=replace(batch.context, canvas=canvas))


def _of_prepared(
    model: VisionModel,
    prepared: Sequence[tuple[Tensor, Geometry]],
    photos: tuple[Photo, ...] | None,
    device: torch.device,
) -> Batch:
    assert isinstance(model.preprocess, Preprocess)
    batch = _stack([tensor for tensor, _ in prepared]).to(device, _dtype(model.module))
    return Batch(batch, InputContext(batch, photos, tuple(geometry for _, geometry in prepared), model.preprocess))


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def prepared_by(model: VisionModel) -> Callable[[Image.Image], Tensor]:
    """A model's preprocessing, if it is no `Preprocess`, as a function from a picture to `(channel, height, width)`.

    Raises:
        WhycamError (the function): it cannot prepare a picture, or makes no such tensor of it.
    """
    function: Any = model.preprocess

    def prepare(image: Image.Image) -> Tensor:
        try:
            made = function(image)
        except WhycamError:
            raise
        except Exception as error:
            why = f"{name_of(function)} cannot prepare this photo: {type(error).__name__}: {error}"
            raise InputError(why) from error
        return _as_tensor(_readied(model, made))

    return prepare


def black(model: VisionModel, context: InputContext) -> Tensor:
    """What a black pixel of a photo is in the model's inputs, `(1, channel, 1, ...)`, by its preprocessing.

    Raises:
        InputError: there is no preprocessing, or what it makes of a picture cannot be told.
    """
    known = context.preprocess or model.preprocess
    try:
        if known is None:
            raise WhycamError("the model has no preprocessing")
        if not isinstance(known, (Preprocess, Measured)):
            height, width = context.size
            known = measure(prepared_by(model), (height, width))
    except WhycamError as error:
        raise InputError(
            f"what a black pixel is in these inputs is not known: {str(error).rstrip('.')}. Say it with preprocess= "
            "(whycam.Explainer takes it for ready batches too), or pass baseline= a number or a tensor (1, C, 1, 1)."
        ) from None
    return known.black.reshape(1, -1, *[1] * len(context.size))


def _readied(model: VisionModel, made: Any) -> Any:
    """What a preprocessing made of one photo, which may be another framework's array with its channels last."""
    if model.ready is None or isinstance(made, Tensor) or not hasattr(made, "shape"):
        return made
    return model.ready(np.asarray(made)[None] if len(made.shape) == 3 else made)


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise InputError(
            f"the photos became inputs of different shapes, {' and '.join(map(str, sorted(shapes)))}; explain them one "
            "by one, or use a preprocessing that resizes."
        )
    return torch.stack(list(tensors))


def _as_tensor(made: Any) -> Tensor:
    if not isinstance(made, Tensor) or not made.is_floating_point():
        raise InputError(
            f"preprocess= must turn a PIL image into a floating-point tensor (C, H, W); it returned "
            f"{type(made).__name__ if not isinstance(made, Tensor) else f'dtype {made.dtype}'}."
        )
    return made[0] if made.ndim == 4 and len(made) == 1 else made


def _check_tensor(inputs: Tensor, module: nn.Module) -> None:
    if not inputs.is_floating_point():
        raise InputError(
            f"a ready batch is a floating-point tensor (N, C, *spatial), normalized as the network expects; this one "
            f"has dtype {inputs.dtype}. For photos pass paths, PIL images or uint8 numpy arrays."
        )
    if inputs.ndim < 2 or (inputs.ndim < 4 and _takes_images(module, inputs.ndim)):
        raise InputError(
            f"a ready batch has shape (N, C, *spatial), or (N, L) for signals; this tensor has shape "
            f"{tuple(inputs.shape)}. For a single image pass image[None]."
        )
    if not inputs.shape[0]:
        raise InputError(f"the batch is empty: shape {tuple(inputs.shape)}.")


def _check_several(inputs: Mapping[Any, Any] | tuple[Any, ...], module: nn.Module) -> None:
    if isinstance(inputs, Mapping) and (odd := [key for key in inputs if not isinstance(key, str)]):
        raise InputError(
            f"a dict names the network's arguments, so its keys are texts, not {odd[0]!r}. For a network that takes a "
            "dict as its one argument pass (dict,)."
        )
    found = list(tensors(inputs))
    if not found:
        listed = ", ".join(f"{key} ({type(value).__name__})" for key, value in dict(inputs).items())
        raise InputError(
            f"a dict holds the network's arguments, and no tensor is among these: {listed or 'it is empty'}. Pass "
            "photos as a path, a PIL image or a list of them, without a dict."
        )
    picture = first_tensor(inputs)
    if picture.ndim == 3 and picture.is_floating_point() and _takes_images(module):
        path = next(path for path, tensor in found if tensor is picture)
        raise InputError(
            f"images come in batches, shape (N, C, H, W); {spell(path)} has shape {tuple(picture.shape)}. For a single "
            "one pass image[None], and so for the other inputs."
        )
    if not len(picture) if picture.ndim else False:
        raise InputError(f"the batch is empty: shape {tuple(picture.shape)}.")


def device_of(module: nn.Module) -> torch.device:
    """The device of the first parameter that has memory; of a network in parts, where its inputs go."""
    found = tree_of(module).devices
    real = [device for device in found if device.type != "meta"]
    if found and not real:
        raise InputError(
            "the model is on the meta device: it has shapes and no weights. Build it without the meta device, or give "
            "it weights, with model.to_empty(device='cpu') and then model.load_state_dict(...)."
        )
    return real[0] if real else torch.device("cpu")


def _takes_images(module: nn.Module, axes: int = 3) -> bool:
    """Whether a network convolves images and no signals, so that three axes can only be an image without its batch.

    Two axes may be signals all the same, of which a network makes pictures of one channel.
    """
    tree = tree_of(module)
    images: Any = tree.of_kind(nn.Conv2d)
    return bool(images) and not tree.of_kind(nn.Conv1d) and (axes == 3 or images[0].in_channels > 1)
