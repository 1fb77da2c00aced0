"""`hf:NAME` or `hf:FOLDER`: a classifier, detector or segmenter of transformers', with its processor and `id2label`.

Or a model that reads texts too, with its tokenizer: one with a tower for each, as CLIP, or one that writes captions.
"""

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from whycam.errors import ModelError, WhycamError
from whycam.kit.files import at_home
from whycam.kit.words import did_you_mean, first_line
from whycam.models import hub, labels
from whycam.models.conversion import NoPhotos, as_function
from whycam.models.packages import importing, optional
from whycam.models.timm_folder import TIMM_FILES, from_timm_folder
from whycam.models.vision_model import PreprocessLike, VisionModel
from whycam.models.weights import ChosenWeights, adopt, classes_in, misfit
from whycam.network.two_towers import has_towers

FORM, PREFIX = "'hf:NAME'", "hf"

#: What transformers and the hub's client raise for what is not there, cannot be read or is of no known kind.
_ERRORS = (OSError, ValueError, KeyError, pickle.UnpicklingError)
_ARCHITECTURE = (
    "name the architecture, as 'hf:vit', and give a file of weights (--weights FILE, weights=FILE), best beside its "
    "config.json, or look at the structure alone (--weights random, weights='random')."
)
_CLASSIFIER = "AutoModelForImageClassification"
#: How a model's class ends -> the loader it is for. Mask2Former's and its kin say ForUniversalSegmentation.
_LOADERS = {
    "ForObjectDetection": "AutoModelForObjectDetection",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
    "ForUniversalSegmentation": "AutoModelForUniversalSegmentation",
}
_INSTEAD = "pass preprocess=, for example whycam.Preprocess.imagenet(), or a ready batch."


def source(spec: str, weights: ChosenWeights) -> VisionModel:
    """The named model: a repository of the Hugging Face hub, a folder, or, with weights given, an architecture.

    Raises:
        WhycamError: no such model, one that is no image classifier or that brings code of its own, or weights that
            cannot be had or do not fit.
        MissingExtraError: transformers is absent, or cannot work with the torchvision that is installed.
    """
    name = spec.partition(":")[2]
    if _is_folder(name):
        return from_folder(at_home(name), spec, weights)
    return from_transformers(name, spec, weights)


def from_folder(folder: Path, spec: str, weights: ChosenWeights) -> VisionModel:
    """The model that transformers or timm saved there.

    Raises:
        WhycamError: no `config.json` of either, or weights that are not there or do not fit.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"the folder {spec!r} has no config.json, as transformers and timm save it with a model.")
    config = _config(folder)
    kind = config.get("model_type")
    if "architecture" in config and kind in (None, "timm_wrapper"):
        return from_timm_folder(folder, spec, weights)
    if kind is None:
        raise ModelError(
            f"{folder / 'config.json'} says neither model_type, as transformers' do, nor architecture, as timm's do; "
            "what network the folder holds is not known."
        )
    return from_transformers(str(folder), spec, weights)


def from_transformers(name: str, spec: str, weights: ChosenWeights) -> VisionModel:
    """A repository, a folder or an architecture, by the library's own ways of finding files."""
    library = _Transformers(spec)
    config, place = library.config(name, weights)
    if config.model_type == "timm_wrapper":  # a repository of timm's layout, read like the folder that the cache keeps
        if weights.given:
            folder = hub.kept(place, "config.json", spec)
            assert folder is not None  # its config.json has just been read
        else:
            folder = hub.from_repository(place, list(TIMM_FILES[:2]), spec).parent
        return from_timm_folder(folder, spec, weights)
    module = library.built(config, weights) if weights.given else library.pretrained(place, config)
    own = labels.from_id2label(module.config.id2label)
    reads = None
    if library.kind(config) not in (_CLASSIFIER, *_LOADERS.values()):
        reads = partial(library.tokenizer, place)
    made = VisionModel(module.eval(), library.preprocess(place), own, weights.titled(spec))
    return replace(made, tokenizer=reads) if reads is not None and place else made


def with_its_files(model: VisionModel, place: str) -> VisionModel:
    """A model with the image processor and the tokenizer beside its files, where these are on this machine.

    Args:
        place: where transformers read it from, a folder or a repository's name.
    """
    with suppress(WhycamError):  # no name that a repository can have
        folder = place if _is_folder(place) else hub.kept(place, "config.json", place) if place else None
        if folder is not None:
            library = _Transformers(place)
            return replace(
                model,
                preprocess=library.preprocess(str(folder)),
                preprocess_note="photos are prepared as the image processor beside the model's files says",
                tokenizer=partial(library.tokenizer, str(folder)),
            )
    return model


class _Transformers:
    """What is asked of transformers for one spec: this machine first, then the hub, and never any code."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.auto = optional("transformers", "hf", f"{spec!r}")
        names = optional("transformers.models.auto.modeling_auto", "hf", f"{spec!r}")
        self.architectures: dict[str, Any] = dict(names.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
        self.writers = set(names.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values())
        self.asked = False

    def kind(self, config: Any) -> str:
        """Which of transformers' loaders a model is for: a classifier's, unless its files are of one that reads."""
        made_as = next(iter(config.architectures or ()), "")
        if made_as in self.writers:
            return "AutoModelForImageTextToText"
        if loader := next((loader for end, loader in _LOADERS.items() if made_as.endswith(end)), None):
            return loader
        return "AutoModel" if has_towers(getattr(self.auto, made_as, None)) else _CLASSIFIER

    def config(self, name: str, weights: ChosenWeights) -> tuple[Any, str]:
        """The configuration, and where it and what belongs to it was found; of a bare architecture its default one."""
        if weights.file is not None and not _is_folder(name):
            beside = _config(weights.file.parent).get("model_type")
            if beside is not None and ("/" in name or beside == name):
                name = str(weights.file.parent)  # what was saved beside the weights is what they are of
        if "/" not in name and not _is_folder(name):
            return self._architecture(name, weights), ""
        config = self._had("AutoConfig", name, "config.json", online=weights.file is None)
        if config.model_type not in self.architectures and self.kind(config) == _CLASSIFIER:
            raise ModelError(
                f"{self.spec!r} is a {config.model_type!r} model, and of these transformers has no image classifier."
            )
        return config, name

    def _architecture(self, name: str, weights: ChosenWeights) -> Any:
        if name not in self.architectures:
            hint = did_you_mean(name.lower(), self.architectures, "hf:{}")
            raise ModelError(
                f"{self.spec!r}: models of the Hugging Face hub are named OWNER/NAME; else this is the path of a "
                f"folder or, with weights given, an architecture of transformers'.{hint}"
            )
        if not weights.given:
            raise ModelError(
                f"{self.spec!r} is an architecture, which has no weights of its own. Name a model of the Hugging Face "
                f"hub (OWNER/NAME) or a folder. {hub.WAYS_OUT}"
            )
        return self.auto.AutoConfig.for_model(name)

    def built(self, config: Any, weights: ChosenWeights) -> Any:
        """An architecture with a file's weights, for as many classes as they are for, or with random ones.

        Raises:
            WhycamError: weights that do not fit.
        """

        def build(classes: int) -> Any:
            with importing("transformers", "hf", f"{self.spec!r}"):
                loader = getattr(self.auto, self.kind(config))
                return loader.from_config(_for_classes(config, classes), trust_remote_code=False)

        if weights.file is None:
            return build(config.num_labels)
        state = weights.state()
        classes = classes_in(state, build, config.num_labels)
        module = build(classes)
        if (reason := misfit(module, state)) is None:
            adopt(module, state)
            return module
        # files have the names of the version that wrote them, and transformers knows the older ones
        with self._quiet():
            translated, said = type(module).from_pretrained(
                None,
                config=_for_classes(config, classes),
                state_dict=state,
                dtype=torch.float32,
                output_loading_info=True,
            )
        if any(said[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys")):
            raise ModelError(f"{weights.file.name} does not fit this {type(module).__name__}: {reason}.")
        return translated

    def pretrained(self, name: str, config: Any) -> Any:
        """The model with its own weights.

        Raises:
            WhycamError: also where they lack the classifier, which would be random.
        """
        module, said = self._had(
            self.kind(config),
            name,
            "its weights",
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
        )
        if lacking := sorted({*said["missing_keys"], *(each[0] for each in said["mismatched_keys"])}):
            raise ModelError(
                f"{self.spec!r} has no weights for {', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}: as "
                "an image classifier it would be partly random. Take a model that was trained to classify, or look at "
                "the structure alone (--weights random, weights='random')."
            )
        return module

    def preprocess(self, place: str) -> PreprocessLike:
        """The image processor that is found with the configuration."""
        if not place:
            return NoPhotos(
                f"{self.spec!r} is an architecture alone, which does not say how a photo becomes its input; {_INSTEAD}"
            )
        try:
            return as_function(self._had("AutoImageProcessor", place, "preprocessor_config.json"))  # type: ignore[no-any-return]
        except WhycamError as error:  # what needs no photo works all the same
            return NoPhotos(f"how a photo becomes the input of this model is not known: {error} Else {_INSTEAD}")

    def tokenizer(self, place: str) -> Any:
        """The tokenizer that is found with the configuration.

        Raises:
            WhycamError: there is none.
        """
        try:
            made = self._had("AutoTokenizer", place, "its tokenizer")
            files = made.vocab_files_names.values()

            def is_there(name: str) -> bool:
                path = at_home(place) / name
                return path.is_file() if _is_folder(place) else hub.kept(place, name, self.spec) is not None

            if not any(map(is_there, files)):  # without them transformers makes one that knows no words
                raise ModelError(f"{self.spec!r} has none of its tokenizer's files ({', '.join(files)}).")
        except WhycamError as error:
            raise ModelError(f"{str(error).rstrip('.')}. Pass the target its tokenizer=.") from error
        return made

    def _had(self, kind: str, name: str, wanted: str, *, online: bool = True, **arguments: Any) -> Any:
        """What `from_pretrained` finds on this machine or, if it may ask, on the hub.

        Raises:
            WhycamError: it is not to be had.
        """
        kept = at_home(name) if _is_folder(name) else hub.kept(name, "config.json", self.spec)
        if kept is not None:
            try:
                # as a folder: asked for a repository, the hub's client looks for things on the hub in any case
                return self._from_pretrained(kind, str(kept), local_files_only=True, **arguments)
            except _ERRORS as error:
                self._refuse_code(error)
                if _is_folder(name):
                    raise ModelError(f"{self.spec!r}: {wanted} cannot be read from it: {first_line(error)}") from error
        if not online:
            raise ModelError(
                f"{self.spec!r}: {name}/{wanted} is not on this machine, and no hub is asked where a file of weights "
                "is given. Put the file beside its config.json, or name its architecture, as 'hf:vit'."
            )
        if not self.asked:
            what = name if " " in wanted else f"{name}/{wanted}"
            hub.need_hub(self.spec, what, instead=_ARCHITECTURE)
            self.asked = True
        repository, _, revision = name.partition("@")
        try:
            return self._from_pretrained(kind, repository, revision=revision or "main", **arguments)
        except _ERRORS as error:
            self._refuse_code(error)
            raise hub.refused(self.spec, name, error) from error

    def _refuse_code(self, error: Exception) -> None:
        """Raise for a model that would run code, and again what is a sentence already."""
        if isinstance(error, WhycamError):
            raise error
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{self.spec!r} brings code of its own, and whycam runs no code that comes with weights. Build the "
                "model yourself and pass it to whycam.explain."
            ) from error
        if isinstance(error, pickle.UnpicklingError):
            raise ModelError(
                f"{self.spec!r}: its weights hold more than tensors, and reading them would run code that is stored in "
                "them; they were not read."
            ) from error

    def _from_pretrained(self, kind: str, name: str, **arguments: Any) -> Any:
        with importing("transformers", "hf", f"{self.spec!r}"), self._quiet():
            return getattr(self.auto, kind).from_pretrained(name, trust_remote_code=False, **arguments)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """A block without transformers' bars for reading files; the hub's own, for fetching them, stay."""
        logging = self.auto.utils.logging
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if shown:
                logging.enable_progress_bar()


def _is_folder(name: str) -> bool:
    return bool(name) and at_home(name).is_dir()


def _config(folder: Path) -> Mapping[str, Any]:
    """What the `config.json` in a folder says; nothing where there is none."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}.") from error
    return found if isinstance(found, dict) else {}


def _for_classes(config: Any, classes: int) -> Any:
    """The configuration for so many classes; its texts stay where the number does."""
    if classes == config.num_labels:
        return config
    names = {index: f"LABEL_{index}" for index in range(classes)}
    told = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    return type(config).from_dict({**config.to_dict(), **told})
