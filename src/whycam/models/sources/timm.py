"""`timm:NAME` and `timm:NAME.TAG`: a model of timm's, prepared and labeled as its `pretrained_cfg` says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from whycam.errors import ModelError
from whycam.kit.words import did_you_mean
from whycam.models import hub, labels
from whycam.models.conversion import NoPhotos
from whycam.models.packages import optional
from whycam.models.vision_model import PreprocessLike, VisionModel
from whycam.models.weights import ChosenWeights, adopt, misfit, read_state

FORM, PREFIX = "'timm:NAME'", "timm"


def source(spec: str, weights: ChosenWeights) -> VisionModel:
    """The named model.

    Raises:
        WhycamError: no such model (near names are suggested), or weights that cannot be had or do not fit.
        MissingExtraError: timm, or the torchvision that it needs, is absent or broken.
    """
    name = spec.partition(":")[2]
    timm = optional("timm", "timm", f"{spec!r}")
    config = _config(timm, spec, name)
    if weights.random:
        return described(timm.create_model(name, pretrained=False), weights.titled(spec))
    if weights.file is not None:
        return described(built(name, config, weights.state(), weights.file.name), weights.titled(spec))
    file = _pretrained(spec, config)
    tag = config.get("tag")
    full = f"{spec}.{tag}" if tag and "." not in name else spec
    return described(built(name, config, read_state(file), f"{file.parent.name}/{file.name}"), full)


def described(module: nn.Module, name: str) -> VisionModel:
    """A timm model with the preprocessing and labels of its configuration."""
    return VisionModel(module.eval(), preprocess_of(module), labels_of(module), name)


def preprocess_of(module: nn.Module) -> PreprocessLike:
    """How a timm model wants its photos, by its `pretrained_cfg` and by the size and channels that it was built for."""
    data = optional("timm.data", "timm", "the preprocessing of a timm model")
    # the former sees a size or channels chosen when the model was built; timm has it since 1.0.27 or so
    resolve = getattr(data, "resolve_input_data_config", None) or data.resolve_model_data_config
    config = resolve(module)
    channels = config["input_size"][0]
    if channels != 3:
        return NoPhotos(
            f"this network takes {channels} channels, and photos have 3; pass a ready batch, or preprocess=."
        )
    transform: PreprocessLike = data.create_transform(**config, is_training=False)
    return transform


def labels_of(module: nn.Module) -> tuple[str, ...] | None:
    """The label texts of a timm model, where its configuration is of as many classes as it has."""
    config: Mapping[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    return labels.from_timm(config, getattr(module, "num_classes", None))


def built(name: str, config: Mapping[str, Any], state: dict[str, Tensor], file: str, **options: Any) -> nn.Module:
    """A model with named tensors in it, for as many classes as they are for.

    They are taken as they are or, where their names are an older version's or the authors' own, as timm itself
    translates them.

    Raises:
        WhycamError: they do not fit.
    """
    timm = optional("timm", "timm", name)
    classes = _classes(config, state)
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **options)
    if (reason := misfit(module, state)) is None:
        adopt(module, state)
        return module
    # timm would also resample positions learned for another size of input, which nobody asked for
    if all(state[key].shape == value.shape for key, value in module.state_dict().items() if key in state):
        # no other source than these tensors, which a folder's configuration would name
        overlay = {"state_dict": state, "num_classes": classes, "custom_load": False, "source": None, "file": None}
        try:
            translated = timm.create_model(
                name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **options
            )
        except Exception:  # the names fit neither way, and the first way is the one to tell of
            pass
        else:
            translated.pretrained_cfg.pop("state_dict", None)
            return translated  # type: ignore[no-any-return]
    raise ModelError(f"{file} does not fit {name!r} of timm: {reason}.")


def _classes(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> int | None:
    """For how many classes the classifier in a file is; `None` for the model's default."""
    named = config.get("classifier") or ()
    for classifier in (named,) if isinstance(named, str) else named:
        if (weight := state.get(f"{classifier}.weight")) is not None:
            return weight.shape[0]
    return None


def _config(timm: Any, spec: str, name: str) -> dict[str, Any]:
    """What timm knows of a model and its weights."""
    base = name.partition(".")[0]
    if "/" in name:
        raise ModelError(f"{spec!r}: timm has no such model. A repository of the Hugging Face hub is 'hf:{name}'.")
    if not timm.is_model(base):
        hint = did_you_mean(base.lower().replace("-", ""), timm.list_models(), "timm:{}")
        raise ModelError(f"{spec!r}: timm {timm.__version__} has no such model.{hint}")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that it lacks
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{base}.*")]
        known = f" It has {', '.join(tags)}." if tags else ""
        raise ModelError(f"{spec!r}: {base} has no weights of the name {name.partition('.')[2]!r}.{known}") from error
    found: dict[str, Any] = config.to_dict() if config is not None else {}
    return found


def _pretrained(spec: str, config: Mapping[str, Any]) -> Path:
    """The file of a model's own weights."""
    if repository := config.get("hf_hub_id"):
        own = config.get("hf_hub_filename") or "pytorch_model.bin"
        return hub.from_repository(
            repository, [own.removesuffix(".bin").replace("pytorch_", "") + ".safetensors", own], spec
        )
    if url := config.get("url"):
        return hub.from_url(url if isinstance(url, str) else url[0], spec)
    raise ModelError(f"{spec!r} has no weights of its own anywhere. {hub.WAYS_OUT}")
