"""whycam's maps for other libraries' suites: Quantus' `explain_func`, and captum's `attribute`.

The other way round, maps of other libraries go into `whycam.evaluate(..., maps={"name": function})` and
`whycam.metrics.NAME(maps, model, inputs)`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whycam.engine.request import MethodLike
from whycam.errors import WhycamError
from whycam.explainer import Explainer
from whycam.models.adopt import ModelLike


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
