"""What a user would stumble over, in sentences: facts about a network in, findings out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from whycam.engine.inputs import prepared_by
from whycam.errors import WhycamError
from whycam.kit.words import plural
from whycam.models.conversion import NoPhotos
from whycam.models.vision_model import VisionModel
from whycam.network.diagnosis.survey import Survey
from whycam.network.layouts import Layout, Tokens
from whycam.network.preserve_state import acting
from whycam.network.pytree import spell, tensors
from whycam.network.unwrap import refuse_scripted
from whycam.pictures.measured import measure
from whycam.pictures.preprocess import Preprocess
from whycam.results.values import Layer

Severity: TypeAlias = Literal["problem", "worth knowing", "fine"]

#: What is looked at, by the kind of its findings, and what is said where nothing is found.
CHECKS: Mapping[str, str] = {
    "weights": "every weight is a finite number",
    "training mode": "no module acts differently for being in training mode",
    "precision": "the weights are of single precision or better",
    "scripted": "nothing is scripted or traced",
    "checkpointing": "no activations are thrown away and made again",
    "preprocessing": "the model says how a photo becomes its input",
    "labels": "there is a label for each class",
    "forward": "the network runs on this input",
    "repeated": "each module runs once",
    "unused": "every module with weights runs",
    "dead layer": "no module returns zeros alone",
    "answer": "the output is one score for each class",
    "probability": "the output is not a probability already",
    "one unit": "the output has several classes",
    "constant answer": "the classes' scores differ",
    "non-finite": "the output is finite",
    "cut gradient": "nothing cuts the gradient on its way to the input",
    "layer": "there is a layer to explain",
    "layout": "the layer's axes can be read in one way",
    "location": "the layer's positions lie where the input has them",
    "zero gradient": "gradient reaches the layer's locations",
}

#: Flags by which model families turn activation checkpointing on.
_CHECKPOINTING = ("grad_checkpointing", "gradient_checkpointing", "use_checkpoint", "with_cp", "memory_efficient")


@dataclass(frozen=True)
class Finding:
    """One thing that a check of a network found.

    Attributes:
        severity: `"problem"` (no map, or not the map one thinks), `"worth knowing"`, or `"fine"` for a check that
            found nothing.
        kind: what was looked at, one of `CHECKS`. `module`: where, as a dotted name; empty for the whole network.
        text: what was found, in one sentence. `advice`: what to do; empty for what is fine.
    """

    severity: Severity
    kind: str
    module: str
    text: str
    advice: str = ""


def problem(kind: str, text: str, advice: str, module: str = "") -> Finding:
    """A finding without which there is no map, or not the map one thinks."""
    return Finding("problem", kind, module, text, advice)


def notable(kind: str, text: str, advice: str, module: str = "") -> Finding:
    """A finding that is worth knowing."""
    return Finding("worth knowing", kind, module, text, advice)


def refused(kind: str, error: WhycamError) -> Finding:
    """A refusal as a problem."""
    return problem(kind, sentence(error.reason), sentence(error.advice) if error.advice else "")


def sentence(text: str) -> str:
    """A text that begins with a capital and ends with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def of_network(model: nn.Module) -> Iterator[Finding]:
    """What the weights and the modules say by themselves, before the network runs."""
    values = list(chain(model.named_parameters(), model.named_buffers()))
    absent = [name for name, value in values if value.device.type == "meta"]
    if absent:
        text = f"{_first(absent, 'weight')} on the meta device, without values."
        yield problem("weights", text, "Load the weights first: load_state_dict(state, assign=True).", absent[0])
    decimals = [(name, value) for name, value in values if value.is_floating_point() and value.device.type != "meta"]
    bad = [name for name, value in decimals if not bool(torch.isfinite(value.detach()).all())]
    if bad:
        text = f"{_first(bad, 'weight')} not finite: NaN or infinity."
        advice = "Load a sound checkpoint; half precision may have overflowed when it was saved."
        yield problem("weights", text, advice, bad[0])
    if acts := acting(model):
        text = f"{_first(acts, 'module')} in training mode and act{'s' * (len(acts) == 1)} differently there (batch "
        advice = "Call model.eval(), unless what the network does in training is the question."
        yield problem("training mode", f"{text}statistics, dropout).", advice, acts[0])
    types = dict.fromkeys(each.dtype for each in model.parameters() if each.is_floating_point())
    if not types.keys().isdisjoint((torch.float16, torch.bfloat16)):
        listed = " and ".join(str(each).removeprefix("torch.") for each in types)
        text = f"The weights are {listed}: gradients below what that type can hold become zero."
        yield notable("precision", text, "If maps come out empty or grainy, explain model.float() instead.")
    scripted = [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    try:
        refuse_scripted(model)
    except WhycamError as error:
        yield refused("scripted", error)
    else:
        if scripted:
            text = f"{_first(scripted, 'module')} scripted or traced, so no layer inside can be recorded."
            advice = "Choose a layer outside, or build the network from ordinary modules."
            yield notable("scripted", text, advice, scripted[0])
    checkpointed = [name for name, module in model.named_modules() if _is_checkpointed(module)]
    if checkpointed:
        yield notable(
            "checkpointing",
            "Activation checkpointing is switched on: parts of the network run a second time for the gradient.",
            "Switch it off for maps: model.set_grad_checkpointing(False) or model.gradient_checkpointing_disable().",
            checkpointed[0],
        )


def _is_checkpointed(module: nn.Module) -> bool:
    flags = (getattr(module, flag, None) is True for flag in _CHECKPOINTING)
    return type(module).__name__ == "CheckpointWrapper" or any(flags)


def of_vision(vision: VisionModel) -> Iterator[Finding]:
    """What can be said of how photos become inputs."""
    if vision.preprocess is None:
        yield notable(
            "preprocessing",
            "The model does not say how a photo becomes its input, so it can be asked about ready batches alone.",
            "Pass preprocess=whycam.Preprocess.imagenet(), or what the network was trained with.",
        )
    elif isinstance(vision.preprocess, NoPhotos):
        text = sentence(vision.preprocess.reason)
        yield notable("preprocessing", text, "Pass ready batches, as the network takes them.")
    elif not isinstance(vision.preprocess, Preprocess):
        try:
            measure(prepared_by(vision), (240, 320))
        except Exception as error:  # the function's own, which may not bear such pictures
            yield notable(
                "preprocessing",
                sentence(f"where the input lies on a photo is not known, since of its preprocessing: {error}"),
                "Maps are drawn on the input; describe it as a whycam.Preprocess to have them on the photo.",
            )


def of_labels(labels: Sequence[str] | None, classes: int) -> Iterator[Finding]:
    """Whether the labels are those of the output's classes."""
    if labels is None:
        advice = "Pass labels=, one text for each class in order."
        yield notable("labels", "No labels are known, so classes go by number.", advice)
    elif len(labels) != classes:
        text = f"There are {plural(len(labels), 'label')} for {classes} classes."
        yield problem("labels", text, "Pass the labels that belong to this network's output, or none.")


def of_survey(seen: Survey) -> Iterator[Finding]:
    """What one forward pass showed."""
    if seen.error is not None:
        said = str(seen.error).strip().partition("\n")[0]
        if not isinstance(seen.error, WhycamError):  # which is a sentence already
            said = f"the network raises {type(seen.error).__name__} on this input{': ' + said if said else ''}"
        advice = "Check its size, channels and type against what the network was built for."
        yield problem("forward", sentence(said), advice, seen.raised_in)
        return
    if repeated := {name: count for name, count in seen.calls.items() if count > 1 and name not in seen.passing}:
        name, count = next(iter(repeated.items()))
        others = f" (and {plural(len(repeated) - 1, 'other')} repeatedly)" if len(repeated) > 1 else ""
        text = f"{name!r} runs {count} times{others}; a layer's name alone means its last call."
        yield notable("repeated", text, f"Name one call as '{name}#0', or all of them as '{name}#*'.", name)
    if seen.unused:
        text = f"{_first(seen.unused, 'module with weights', 'modules with weights')} not used for this answer."
        advice = "Choose other layers ('whycam layers'); check that the part is meant to be idle."
        yield notable("unused", text, advice, seen.unused[0])


def of_zero(modules: Sequence[str]) -> Iterator[Finding]:
    """Modules whose output is nothing but zeros."""
    if modules:
        text = f"{_first(modules, 'module', does='returns', do='return')} nothing but zeros for this input."
        advice = "Try a photo; if it stays so, the weights are untrained or the units are dead."
        yield notable("dead layer", text, advice, modules[0])


def of_answer(
    raw: Any, part: str, answer: Tensor, *, samples: int, probability: bool, embedding: str
) -> Iterator[Finding]:
    """What can be said of the output.

    `part` is where the answer was found in what the model returned, `raw`; `embedding` says how it is known that it
    holds no class scores, if so.
    """
    alike = [spell(path) for path, each in tensors(raw) if each.is_floating_point() and each.shape == answer.shape]
    others = [each for each in alike if each != part]
    if part in alike and others:
        yield notable(
            "answer",
            f"The network returns several outputs of shape {_sizes(answer.shape)}: output{part} is explained, and "
            f"{' and '.join(f'output{each}' for each in others[:3])} not.",
            f"If another is meant, name it: output={others[0].lstrip('.')!r}.",
        )
    if embedding:
        text = f"The output{part} is an embedding ({embedding}), whose largest number is no class."
        advice = "Pass target=, such as whycam.targets.Similarity(another), or name class scores with output=."
        yield problem("answer", text, advice)
    elif answer.ndim > 2:
        text = f"The output has shape {_sizes(answer.shape)}, from which no class can be read."
        advice = (
            "Pass target=, such as whycam.targets.Region(class) or Box(0), or a function from the output to a score."
        )
        yield problem("answer", text, advice)
    elif len(answer) != samples:
        text = f"The output has shape {_sizes(answer.shape)} for {plural(samples, 'sample')}."
        yield problem("answer", text, "Let the network return one row of scores for each sample.")
    elif answer.ndim == 1 or answer.shape[1] == 1:
        text = "The output is one number: class 1 is its own side, class 0 the other."
        advice = "Ask for either with target=1 or target=0; the default is the side it predicts."
        yield notable("one unit", text, advice)
    elif bool((answer == answer[:, :1]).all()):
        said = f"All {answer.shape[1]} classes have the same score, {float(answer[0, 0]):g}"
        advice = "Load trained weights; a head that starts at zero has no gradient to explain."
        yield problem("constant answer", f"{said}: the head may not be trained.", advice)
    if probability:
        text = "The output already is a probability, whose gradient vanishes where the network is sure."
        yield notable("probability", text, "Return the logits, or explain whycam.targets.LogProbability().")


def of_layer(layer: Layer, readings: Sequence[Layout], *, dead: bool) -> Iterator[Finding]:
    """What can be said of a layer that was chosen: `readings` of its axes, and whether all it returned was zero.

    Tokens are told apart by how many precede the patches; the axes of an image by their sizes, unless those are equal.
    """
    if layer.location == "undetermined":
        yield notable(
            "location",
            f"It cannot be told where in the input the positions of {layer.name!r} lie: a change of one half of the "
            "input reaches all of them.",
            "With trained weights try again; otherwise check on a photo whose object you know.",
            layer.name,
        )
    others = [each for each in readings if str(each) != layer.layout]
    alike = [each for each in others if isinstance(each, Tokens) or each.grid(layer.shape) == layer.grid]
    if alike and layer.location != "verified":
        yield notable(
            "layout",
            f"The axes of {layer.name!r}, {_sizes(layer.shape)}, can be read in {len(alike) + 1} ways: as "
            f"{layer.layout}, which was taken, or as {' or '.join(map(str, alike))}.",
            "If that is wrong pass layout= (whycam.layouts).",
            layer.name,
        )
    if dead:
        text = f"{layer.name!r}, where the map is made, returns nothing but zeros for this input."
        yield problem("dead layer", text, "Try a photo; if it stays so, name an earlier layer.", layer.name)


def _first(names: Sequence[str], thing: str, things: str = "", *, does: str = "is", do: str = "are") -> str:
    """`'bn' is`, or `'bn' and 2 other modules are`."""
    if len(names) == 1:
        return f"{names[0]!r} {does}"
    others = len(names) - 1
    return f"{names[0]!r} and {others} other {thing if others == 1 else things or thing + 's'} {do}"


def _sizes(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
