"""Why a vision model decided as it did: class activation maps that are right, at the cost of a prediction.

`whycam.explain(model, inputs)` is the one line; everything here is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whycam.checkup.cost import Estimate as Estimate
    from whycam.checkup.cost import estimate_cost as estimate_cost
    from whycam.checkup.doctor import Checkup as Checkup
    from whycam.checkup.doctor import doctor as doctor
    from whycam.checkup.findings import Finding as Finding
    from whycam.checkup.layers import LayerInfo as LayerInfo
    from whycam.checkup.layers import layers as layers
    from whycam.checkup.layers import list_methods as list_methods
    from whycam.engine.explain import compare as compare
    from whycam.engine.explain import explain as explain
    from whycam.errors import PhotoError as PhotoError
    from whycam.errors import WhycamError as WhycamError
    from whycam.kit.registry import method as method
    from whycam.models.load import load as load
    from whycam.models.vision_model import VisionModel as VisionModel
    from whycam.network import layouts as layouts
    from whycam.pictures.preprocess import Preprocess as Preprocess
    from whycam.results.explanation import Comparison as Comparison
    from whycam.results.explanation import Explanation as Explanation

__version__ = "0.1.0"

#: Public name -> the module that holds it.
_HOMES = {
    "Checkup": "whycam.checkup.doctor",
    "Comparison": "whycam.results.explanation",
    "Estimate": "whycam.checkup.cost",
    "Explanation": "whycam.results.explanation",
    "Finding": "whycam.checkup.findings",
    "LayerInfo": "whycam.checkup.layers",
    "PhotoError": "whycam.errors",
    "Preprocess": "whycam.pictures.preprocess",
    "VisionModel": "whycam.models.vision_model",
    "WhycamError": "whycam.errors",
    "compare": "whycam.engine.explain",
    "doctor": "whycam.checkup.doctor",
    "estimate_cost": "whycam.checkup.cost",
    "explain": "whycam.engine.explain",
    "layers": "whycam.checkup.layers",
    "list_methods": "whycam.checkup.layers",
    "load": "whycam.models.load",
    "method": "whycam.kit.registry",
}
_MODULES = {"fusions": "whycam.fusions", "layouts": "whycam.network.layouts", "targets": "whycam.targets"}

__all__ = [*sorted(_HOMES), *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = import_module(_MODULES[name])
    else:
        raise AttributeError(f"module 'whycam' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
