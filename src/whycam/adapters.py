"""whycam's maps inside other libraries: Quantus' `explain_func`, captum's `attribute`, Ray Data's `map_batches`.

The other way round, maps of other libraries go into `whycam.evaluate(..., maps={"name": function})` and
`whycam.metrics.NAME(maps, model, inputs)`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whycam.engine.request import LayerLike, MethodLike, Request
from whycam.engine.session import Session
from whycam.errors import OptionError, WhycamError
from whycam.explainer import Explainer
from whycam.models.adopt import Labels, ModelLike, as_vision_model
from whycam.models.vision_model import PreprocessLike, put_on
from whycam.runs.decoding import decode
from whycam.runs.explaining import Worker
from whycam.runs.keeping import Kept
from whycam.runs.sources import Item
from whycam.runs.store import COLUMNS
from whycam.targets import TargetSpec


def explain_func(method: MethodLike | None = None, **request: Any) -> Callable[..., np.ndarray]:
    """A function `(model, inputs, targets, **options) -> (batch, 1, *space)`, as Quantus calls its `explain_func`.

    Maps are raw, at the input's size, float32. `inputs` and `targets` are arrays or tensors; the model's device and
    precision are kept. Which device Quantus names is of no matter: the maps are made where the model is.

    Args:
        method, request: as for `whycam.explain`; options that Quantus passes on (`explain_func_kwargs`) come on top.

    Examples:
        >>> whycam.adapters.explain_func("hires_cam")(net, np.zeros((2, 3, 16, 16), "float32"), [0, 1]).shape
        (2, 1, 16, 16)
    """

    def explain(model: Any, inputs: Any, targets: Any = None, **options: Any) -> np.ndarray:
        for name in ("device", "softmax"):  # which Quantus hands to every explain_func
            options.pop(name, None)
        attribution = Attribution(model, method, **{**request, **options})
        parameter = next(model.parameters(), None)
        batch = torch.as_tensor(np.asarray(inputs) if not isinstance(inputs, Tensor) else inputs)
        if parameter is not None:
            batch = batch.to(parameter.dtype)
        return attribution.maps(batch, targets)[:, None].cpu().numpy()

    return explain


class Attribution:
    """A method with captum's `attribute(inputs, target)`, so that captum's metrics take it.

    Args:
        model: as for `whycam.explain`. `method`, `request`: likewise.

    Examples:
        >>> whycam.adapters.Attribution(net, "grad_cam").attribute(batch, target=1).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, model: ModelLike, method: MethodLike | None = None, **request: Any) -> None:
        self._explainer, self._method, self._request = Explainer(model), method, request

    def attribute(self, inputs: Tensor | tuple[Tensor], target: Any = None, additional_forward_args: Any = None) -> Any:
        """The maps at the input's size, the same for each color: captum's metrics want them in the shape of the inputs.

        Args:
            inputs: `(batch, color, *space)`, or a tuple of it, as captum's metrics pass them; a tuple comes back then.
            target: a class, or one for each sample.

        Raises:
            WhycamError: several inputs, or `additional_forward_args`.
        """
        if additional_forward_args is not None or (isinstance(inputs, tuple) and len(inputs) > 1):
            raise WhycamError("one input is explained here; explain several by whycam.explain, which takes a tuple.")
        picture = inputs[0] if isinstance(inputs, tuple) else inputs
        maps = self.maps(picture, target)
        made = maps[:, None].expand(-1, picture.shape[1], *maps.shape[1:]).to(picture.dtype)
        return (made,) if isinstance(inputs, tuple) else made

    def maps(self, inputs: Tensor, target: Any = None) -> Float[Tensor, "batch *space"]:
        """The maps at the input's size, raw, float32."""
        several = isinstance(target, (list, tuple, np.ndarray, Tensor)) and np.ndim(target) > 0
        aims = torch.as_tensor(target).tolist() if several else int(target) if target is not None else None
        found = self._explainer.explain(inputs, self._method, target=aims, **self._request)
        return found.heatmaps(normalize="none")


class RayExplainer:
    """A callable class for `map_batches` of Ray Data, and of Hugging Face's `datasets`: photos in, rows of a run out.

    For a pipeline of your own; `whycam.run(..., engine="ray")` is one of ours. A batch is a dict of columns. What comes
    back has the columns that came, without the photos, and for each photo those that a run's table has: prediction,
    score, status, the raw map, and the reason where a photo cannot be read or explained.

    Args:
        model: as for `whycam.explain`; a text such as `"timm:resnet50"` is loaded by each actor for itself.
        method, target, layer, preprocess, labels, options: as for `whycam.explain`; one row for each photo.
        photo: the column of photos: arrays of uint8 `(height, width, 3)`, the bytes of files, paths, or PIL images.
        device: where the network is moved to, such as `"cuda"` in actors with a GPU; it stays where it is unless said.
        maps: how the maps' values are kept: `np.frombuffer(map, map_type).reshape(map_shape)`.

    Examples:
        >>> explain = whycam.adapters.RayExplainer(net, layer="0", preprocess=whycam.Preprocess.imagenet(16, 16))
        >>> made = explain({"image": np.zeros((2, 20, 24, 3), np.uint8), "id": np.array([7, 8])})
        >>> made["id"], np.frombuffer(made["map"][1], made["map_type"][1]).reshape(made["map_shape"][1]).shape
        (array([7, 8]), (14, 14))

        With Ray, on two GPUs:

        >>> import ray  # doctest: +SKIP
        >>> photos = ray.data.read_images("photos/", include_paths=True)  # doctest: +SKIP
        >>> rows = photos.map_batches(  # doctest: +SKIP
        ...     whycam.adapters.RayExplainer,
        ...     fn_constructor_kwargs={"model": "timm:resnet50", "method": "layer_cam", "device": "cuda"},
        ...     compute=ray.data.ActorPoolStrategy(size=2), num_gpus=1, batch_size=32,
        ... )
        >>> rows.write_parquet("maps/")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: ModelLike,
        method: MethodLike | None = None,
        target: TargetSpec = None,
        layer: LayerLike = None,
        *,
        photo: str = "image",
        preprocess: PreprocessLike | None = None,
        labels: Labels | None = None,
        device: str | None = None,
        maps: Literal["float16", "float32"] = "float16",
        **options: Any,
    ) -> None:
        vision = as_vision_model(model, preprocess, labels)
        if device is not None:
            put_on(vision, device, "device")
        session = Session(vision)
        usual = method if method is not None else session.usual_method(target)
        request = Request.one(usual, target, layer, None, options, usual=method is None)
        self._worker, self._photo = Worker(session, request, Kept(maps), Path()), photo

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The rows of a batch, in its order.

        Raises:
            WhycamError: no column of photos, one that would be written over, or the first photos are all refused, so
                that the question is at fault.
        """
        if self._photo not in batch:
            raise OptionError(
                f"a batch has no column {self._photo!r}; it has {', '.join(batch)}. Say which: photo=NAME."
            )
        kept = {name: np.asarray(column) for name, column in batch.items() if name != self._photo}
        if taken := sorted(kept.keys() & _MADE):
            raise OptionError(f"column {taken[0]!r} is one that is made; rename yours.")
        photos = [Path(each) if isinstance(each, str) else each for each in batch[self._photo]]
        items = [Item(str(number), each) for number, each in enumerate(photos)]
        read = [decode(item, self._worker.preprocess) for item in items]
        rows = {row["source"]: row for of_image in self._worker(read) for row in of_image}
        made = {name: _column([rows[item.id].get(name) for item in items]) for name in COLUMNS if name in _MADE}
        return {**kept, **made}


#: The columns of a run's table, without those that a source has.
_MADE = COLUMNS.keys() - {"source", "label"}


def _column(values: list[Any]) -> np.ndarray:
    """Numbers as such, with NaN for none; anything else as objects, none of them unpacked."""
    if all(isinstance(each, float | None) for each in values) and any(each is not None for each in values):
        return np.array(values, np.float64)
    if all(isinstance(each, int) for each in values):
        return np.array(values)
    made = np.empty(len(values), object)
    made[:] = values
    return made
