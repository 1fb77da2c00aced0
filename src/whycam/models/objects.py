"""Networks that callers pass as objects, with what they carry about themselves."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import nn

from whycam.errors import WhycamError
from whycam.models import labels
from whycam.models.conversion import NoPhotos
from whycam.models.vision_model import PreprocessLike, VisionModel
from whycam.network.two_towers import has_towers
from whycam.targets import Borrowed

#: What the classes of transformers' models are called whose `config.id2label` names what they find.
_TASKS = ("ForImageClassification", "ForObjectDetection", "ForSemanticSegmentation", "ForUniversalSegmentation")
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def from_module(module: nn.Module, name: str) -> VisionModel:
    """A module, left as it is, with the label texts and the preprocessing that it has in its own configuration.

    transformers' classifiers have texts (`config.id2label`), timm's models have both (`pretrained_cfg`). Texts count
    only while the classifier has as many classes: people replace it, and leave the configuration. A model inside a
    wrapper (PEFT's, Lightning's, one of the caller's own) that has no other weights brings what it has.
    """
    inner = _inside(module)
    if inner is not module:
        found = from_module(inner, name)
        borrowed = found.labels if found.labels is None or isinstance(module, _PARALLEL) else Borrowed(found.labels)
        return replace(found, module=module, labels=borrowed)
    config = getattr(inner, "pretrained_cfg", None)
    if _kinds("timm", inner) and isinstance(config, Mapping):
        texts = labels.from_timm(config, getattr(inner, "num_classes", None))
        named = config.get("classifier") or ()
        texts = texts if _answers(inner, (named,) if isinstance(named, str) else named, texts) else None
        return VisionModel(
            module, _timm_preprocess(inner), texts, name, "photos are prepared as the model's own pretrained_cfg says"
        )
    if "BaseModel" in _kinds("ultralytics", inner):
        from whycam.models.sources.ultralytics import described

        return replace(described(inner, name), module=module)
    if (task := _task(inner)) is not None:
        texts = labels.from_id2label(getattr(getattr(inner, "config", None), "id2label", None))
        # DETR's and Mask2Former's have one more than there are texts, for no object
        known = _answers(inner, ("classifier",), texts, int(task != _TASKS[0]))
        return VisionModel(module, labels=texts if known else None, name=name)
    writes: Any = getattr(inner, "can_generate", bool)
    if _kinds("transformers", inner) and (has_towers(inner) or writes()):
        from whycam.models.sources.hf import with_its_files

        return with_its_files(VisionModel(module, name=name), getattr(inner, "name_or_path", ""))
    return VisionModel(module, name=name)


def _is_library_s(module: nn.Module) -> bool:
    return bool(_task(module) or _kinds("timm", module)) or "BaseModel" in _kinds("ultralytics", module)


def _task(module: nn.Module) -> str | None:
    """What a model of transformers' is for, of what is explained with its labels."""
    return next((task for each in _kinds("transformers", module) for task in _TASKS if task in each), None)


def _inside(module: nn.Module) -> nn.Module:
    """The model of a library inside wrappers that have no weights but its; the module itself where there is none."""
    inner = module
    while not _is_library_s(inner):
        with_weights = [each for each in inner.children() if any(True for _ in each.parameters())]
        if len(with_weights) != 1 or any(True for _ in inner.parameters(recurse=False)):
            return module
        (inner,) = with_weights
    return inner


def _timm_preprocess(module: nn.Module) -> PreprocessLike:
    from whycam.models.sources.timm import preprocess_of

    said = getattr(module, "pretrained_cfg", None)
    unsaid = [name for name in ("input_size", "mean", "std") if not (said.get(name) if said else None)]
    if unsaid:  # timm would take ImageNet's
        return NoPhotos(
            f"this model's pretrained_cfg does not say how a photo becomes its input (no {', '.join(unsaid)}); pass "
            "preprocess=."
        )
    try:
        return preprocess_of(module)
    except (WhycamError, KeyError, TypeError, ValueError) as error:  # a ready batch needs none of it
        return NoPhotos(
            f"this model's pretrained_cfg does not say how a photo becomes its input ({error}); pass preprocess=."
        )


def _kinds(library: str, module: nn.Module) -> list[str]:
    """The names of a module's class and of those it was derived from, as far as they are a library's."""
    return [each.__name__ for each in type(module).__mro__ if each.__module__.partition(".")[0] == library]


def _answers(module: nn.Module, classifiers: Iterable[str], texts: tuple[str, ...] | None, more: int = 0) -> bool:
    """Whether there is a text for each class of the named classifier or, where that cannot be told, of some layer.

    A layer may have so many `more`.
    """
    if texts is None:
        return False
    widths: list[int] = []
    for name in classifiers:
        with suppress(AttributeError):
            widths += _widths(module.get_submodule(name))
    widths = widths or _widths(module)
    return len(texts) in widths or len(texts) + more in widths


def _widths(module: nn.Module) -> list[int]:
    """How many features the layers of a module have, as far as they say."""
    told = (vars(each) for each in module.modules())  # not getattr, which is slow where there is nothing to find
    found = (each.get("out_features", each.get("out_channels")) for each in told)
    return [each for each in found if isinstance(each, int)]
