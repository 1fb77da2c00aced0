"""Why a vision model decided as it did: class activation maps that are right, at the cost of a prediction.

`whycam.explain(model, inputs)` is the one line; everything here is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whycam import fusions as fusions
    from whycam import targets as targets
    from whycam.checkup.cost import Estimate as Estimate
    from whycam.checkup.doctor import Checkup as Checkup
    from whycam.checkup.findings import Finding as Finding
    from whycam.checkup.layers import LayerInfo as LayerInfo
    from whycam.errors import PhotoError as PhotoError
    from whycam.errors import WhycamError as WhycamError
    from whycam.explainer import Explainer as Explainer
    from whycam.explainer import compare as compare
    from whycam.explainer import doctor as doctor
    from whycam.explainer import estimate_cost as estimate_cost
    from whycam.explainer import explain as explain
    from whycam.explainer import layers as layers
    from whycam.kit.registry import list_methods as list_methods
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
    "Explainer": "whycam.explainer",
    "Explanation": "whycam.results.explanation",
    "Finding": "whycam.checkup.findings",
    "LayerInfo": "whycam.checkup.layers",
    "PhotoError": "whycam.errors",
    "Preprocess": "whycam.pictures.preprocess",
    "VisionModel": "whycam.models.vision_model",
    "WhycamError": "whycam.errors",
    "compare": "whycam.explainer",
    "doctor": "whycam.explainer",
    "estimate_cost": "whycam.explainer",
    "explain": "whycam.explainer",
    "layers": "whycam.explainer",
    "list_methods": "whycam.kit.registry",
    "load": "whycam.models.load",
    "method": "whycam.kit.registry",
}
_MODULES = {"fusions": "whycam.fusions", "layouts": "whycam.network.layouts", "targets": "whycam.targets"}

__all__ = [*sorted(_HOMES), *sorted(_MODULES)]


if not TYPE_CHECKING:  # or every misspelled name would pass a type checker

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
