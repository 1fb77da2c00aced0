"""Why a vision model decided as it did: class activation maps that are right, at the cost of a prediction.

`whycam.explain(model, inputs)` is the one line; everything here is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: Public name -> the module that holds it. `__init__.pyi` tells type checkers and editors the same.
_HOMES = {
    "Augmentation": "whycam.engine.smoothing",
    "Clip": "whycam.pictures.media",
    "Choice": "whycam.evaluation.choosing",
    "Checkup": "whycam.checkup.doctor",
    "Comparison": "whycam.results.explanation",
    "Cost": "whycam.results.values",
    "Estimate": "whycam.checkup.cost",
    "Evaluation": "whycam.results.evaluation",
    "Explainer": "whycam.explainer",
    "Explanation": "whycam.results.explanation",
    "Finding": "whycam.checkup.findings",
    "InputError": "whycam.errors",
    "Layer": "whycam.results.values",
    "LayerInfo": "whycam.checkup.layers",
    "LayerNotFound": "whycam.errors",
    "LayerRefused": "whycam.errors",
    "Measurement": "whycam.kit.metric",
    "MethodNotFound": "whycam.errors",
    "MetricNotFound": "whycam.errors",
    "MissingExtraError": "whycam.errors",
    "ModelError": "whycam.errors",
    "NoGradient": "whycam.errors",
    "OptionError": "whycam.errors",
    "OutputError": "whycam.errors",
    "PhotoError": "whycam.errors",
    "Prediction": "whycam.results.values",
    "Preprocess": "whycam.pictures.preprocess",
    "Result": "whycam.kit.quantities",
    "Run": "whycam.runs.run",
    "Sample": "whycam.results.values",
    "Signal": "whycam.pictures.media",
    "Spectrogram": "whycam.pictures.media",
    "Score": "whycam.kit.quantities",
    "Status": "whycam.kit.status",
    "TargetError": "whycam.errors",
    "Tiles": "whycam.engine.tiling",
    "Trace": "whycam.kit.quantities",
    "VisionModel": "whycam.models.vision_model",
    "Volume": "whycam.pictures.media",
    "WhycamError": "whycam.errors",
    "choose": "whycam.explainer",
    "compare": "whycam.explainer",
    "doctor": "whycam.explainer",
    "estimate_cost": "whycam.explainer",
    "evaluate": "whycam.explainer",
    "explain": "whycam.explainer",
    "layers": "whycam.explainer",
    "list_methods": "whycam.kit.registry",
    "list_metrics": "whycam.kit.metric",
    "open_run": "whycam.runs.run",
    "run": "whycam.explainer",
    "load": "whycam.models.load",
    "method": "whycam.kit.registry",
    "merge_shards": "whycam.runs.parts",
    "metric": "whycam.kit.metric",
    "read_photo": "whycam.pictures.photos",
    "read_volume": "whycam.pictures.nifti",
}
_MODULES = {
    "adapters": "whycam.adapters",
    "fusions": "whycam.kit.fusions",
    "layouts": "whycam.network.layouts",
    "metrics": "whycam.metrics",
    "targets": "whycam.targets",
    "training": "whycam.training",
}

__all__ = [*sorted(_HOMES), *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
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
