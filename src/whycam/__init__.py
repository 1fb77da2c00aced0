"""Why a vision model decided as it did: class activation maps that are right, at the cost of a prediction.

`whycam.explain(model, inputs)` is the one line; everything here is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whycam.catalogue import LayerInfo as LayerInfo
    from whycam.catalogue import layers as layers
    from whycam.catalogue import list_methods as list_methods
    from whycam.checkup import Checkup as Checkup
    from whycam.checkup import doctor as doctor
    from whycam.engine import compare as compare
    from whycam.engine import explain as explain
    from whycam.errors import PhotoError as PhotoError
    from whycam.errors import WhycamError as WhycamError
    from whycam.estimating import Estimate as Estimate
    from whycam.estimating import estimate_cost as estimate_cost
    from whycam.explanation import Comparison as Comparison
    from whycam.explanation import Explanation as Explanation
    from whycam.findings import Finding as Finding
    from whycam.models.load import load as load
    from whycam.models.vision_model import VisionModel as VisionModel
    from whycam.network import layouts as layouts
    from whycam.pictures.preprocess import Preprocess as Preprocess
    from whycam.registry import method as method

__version__ = "0.1.0"

#: Public name -> the module that holds it.
_HOMES = {
    "Checkup": "whycam.checkup",
    "Comparison": "whycam.explanation",
    "Estimate": "whycam.estimating",
    "Explanation": "whycam.explanation",
    "Finding": "whycam.findings",
    "LayerInfo": "whycam.catalogue",
    "PhotoError": "whycam.errors",
    "Preprocess": "whycam.pictures.preprocess",
    "VisionModel": "whycam.models.vision_model",
    "WhycamError": "whycam.errors",
    "compare": "whycam.engine",
    "doctor": "whycam.checkup",
    "estimate_cost": "whycam.estimating",
    "explain": "whycam.engine",
    "layers": "whycam.catalogue",
    "list_methods": "whycam.catalogue",
    "load": "whycam.models.load",
    "method": "whycam.registry",
}
_MODULES = {"fusion": "whycam.fusion", "layouts": "whycam.network.layouts", "targets": "whycam.targets"}

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
