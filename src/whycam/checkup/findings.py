"""What a user would stumble over, in sentences: facts about a network in, findings out."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from whycam.engine.inputs import prepared_by
from whycam.errors import WhycamError
from whycam.models.conversion import NoPhotos
from whycam.models.vision_model import VisionModel
from whycam.network.diagnosis.condition import Condition
from whycam.network.diagnosis.survey import Survey
from whycam.network.layouts import Layout, Tokens
from whycam.network.pytree import spell, tensors
from whycam.network.recording.graph_breaks import Cut
from whycam.pictures.measured import measure
from whycam.pictures.preprocess import Preprocess
from whycam.results.explanation import Layer

#: How the reason for a layer tells that a later one has no gradient, and which.
_UNREAD = re.compile(r"('[^']+') (?:the gradient is zero|comes later and has no part in the answer)")

Severity: TypeAlias = Literal["problem", "worth knowing", "fine"]

#: What is looked at, by the kind of its findings, and what is said where nothing is found.
CHECKS: Mapping[str, str] = {
    "weights": "every weight is a finite number",
    "training mode": "no module acts differently for being in training mode",
    "mixed modes": "all modules are in one mode",
    "precision": "the weights are of one type, of single precision or better",
    "devices": "all weights are on one device",
    "compiled": "nothing is compiled",
    "scripted": "nothing is scripted or traced",
    "parallel": "no wrapper splits the batch",
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
    "layer": "the last feature with spatial axes is the one explained",
    "layout": "the layer's axes can be read in one way",
    "location": "the layer's positions lie where the input has them",
    "in-place": "nothing writes over what the layer returned",
    "zero gradient": "gradient reaches the layer's locations",
}


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


def problem(kind: str, module: str, text: str, advice: str) -> Finding:
    """A finding without which there is no map, or not the map one thinks."""
    return Finding("problem", kind, module, text, advice)


def notable(kind: str, module: str, text: str, advice: str) -> Finding:
    """A finding that is worth knowing."""
    return Finding("worth knowing", kind, module, text, advice)


def refused(kind: str, error: WhycamError) -> Finding:
    """A refusal as a problem."""
    return problem(kind, "", sentence(error.reason), sentence(error.advice) if error.advice else "")


def sentence(text: str) -> str:
    """A text that begins with a capital and ends with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def fine(checked: Collection[str], findings: Sequence[Finding]) -> list[Finding]:
    """One finding for each check that was made and found nothing."""
    found = {finding.kind for finding in findings}
    return [Finding("fine", kind, "", text) for kind, text in CHECKS.items() if kind in checked and kind not in found]


def of_condition(state: Condition) -> Iterator[Finding]:
    """What can be said before the network runs."""
    if state.absent:
        yield problem(
            "weights",
            state.absent[0],
            f"{_first(state.absent, 'weight')} on the meta device, without values.",
            "Load the weights first: load_state_dict(state, assign=True).",
        )
    if state.non_finite:
        yield problem(
            "weights",
            state.non_finite[0],
            f"{_first(state.non_finite, 'weight')} not finite: NaN or infinity.",
            "Load a sound checkpoint; half precision may have overflowed when it was saved.",
        )
    if state.acting:
        yield problem(
            "training mode",
            state.acting[0],
            f"{_first(state.acting, 'module')} in training mode and acts differently there (batch statistics, dropout)."
            if len(state.acting) == 1
            else f"{_first(state.acting, 'module')} in training mode and act differently there (batch statistics, "
            "dropout).",
            "Call model.eval(), unless what the network does in training is the question.",
        )
    elif state.mixed:
        yield notable(
            "mixed modes",
            "",
            f"{_counted(state.training, 'module')} in training mode and the others are not; none acts differently "
            "for it.",
            "Nothing to do; model.eval() puts all into one mode.",
        )
    yield from _of_numbers(state)
    yield from _of_wrappers(state)


def _of_numbers(state: Condition) -> Iterator[Finding]:
    half = [each for each in state.dtypes if each in (torch.float16, torch.bfloat16)]
    if half or len(state.dtypes) > 1:
        yield notable(
            "precision",
            "",
            f"The weights are {' and '.join(_plain(each) for each in state.dtypes)}"
            + (": gradients below what that type can hold become zero." if half else "."),
            "If maps come out empty or grainy, explain model.float() instead." if half else "Nothing to do.",
        )
    if len(state.devices) > 1:
        listed = " and ".join(map(str, state.devices))
        yield notable(
            "devices",
            "",
            f"The weights are on {listed}; the input is put on {state.devices[0]}.",
            "See that the network begins there, or move all of it to one device.",
        )


def _of_wrappers(state: Condition) -> Iterator[Finding]:
    if state.compiled:
        yield notable(
            "compiled",
            state.compiled[0],
            "The network is compiled, and compiled code cannot be watched: whycam runs the same weights uncompiled.",
            "Nothing to do; numbers may differ in the last digits.",
        )
    if state.refused:
        yield refused("scripted", WhycamError(state.refused))
    elif state.scripted:
        yield notable(
            "scripted",
            state.scripted[0],
            f"{_first(state.scripted, 'module')} scripted or traced, so no layer inside can be recorded.",
            "Choose a layer outside, or build the network from ordinary modules.",
        )
    if state.parallel:
        yield notable(
            "parallel",
            "",
            f"The network is wrapped in {state.parallel}: whycam runs the module inside it, on one device.",
            "Nothing to do; layers go by the names that they have inside.",
        )
    if state.checkpointed:
        yield notable(
            "checkpointing",
            state.checkpointed[0],
            "Activation checkpointing is switched on: parts of the network run a second time for the gradient.",
            "Switch it off for maps: model.set_grad_checkpointing(False) or model.gradient_checkpointing_disable().",
        )


def of_vision(vision: VisionModel) -> Iterator[Finding]:
    """What can be said of how photos become inputs."""
    if vision.preprocess is None:
        yield notable(
            "preprocessing",
            "",
            "The model does not say how a photo becomes its input, so it can be asked about ready batches alone.",
            "Pass preprocess=whycam.Preprocess.imagenet(), or what the network was trained with.",
        )
    elif isinstance(vision.preprocess, NoPhotos):
        yield notable(
            "preprocessing", "", sentence(vision.preprocess.reason), "Pass ready batches, as the network takes them."
        )
    elif not isinstance(vision.preprocess, Preprocess):
        try:
            measure(prepared_by(vision), (240, 320))
        except Exception as error:  # the function's own, which may not bear such pictures
            yield notable(
                "preprocessing",
                "",
                sentence(f"where the input lies on a photo is not known, since of its preprocessing: {error}"),
                "Maps are drawn on the input; describe it as a whycam.Preprocess to have them on the photo.",
            )


def of_labels(labels: Sequence[str] | None, classes: int) -> Iterator[Finding]:
    """Whether the labels are those of the output's classes."""
    if labels is None:
        yield notable(
            "labels",
            "",
            "No labels are known, so classes go by number.",
            "Pass labels=, one text for each class in order.",
        )
    elif len(labels) != classes:
        yield problem(
            "labels",
            "",
            f"There are {_counted(len(labels), 'label', verb=False)} for {classes} classes.",
            "Pass the labels that belong to this network's output, or none.",
        )


def of_survey(seen: Survey) -> Iterator[Finding]:
    """What one forward pass showed."""
    if seen.error is not None:
        said = str(seen.error).strip().partition("\n")[0]
        if not isinstance(seen.error, WhycamError):  # which is a sentence already
            said = f"the network raises {type(seen.error).__name__} on this input{': ' + said if said else ''}"
        yield problem(
            "forward",
            seen.raised_in,
            sentence(said),
            "Check its size, channels and type against what the network was built for.",
        )
        return
    if repeated := {name: count for name, count in seen.calls.items() if count > 1 and name not in seen.passing}:
        name, count = next(iter(repeated.items()))
        others = f" (and {_counted(len(repeated) - 1, 'other', verb=False)} repeatedly)" if len(repeated) > 1 else ""
        yield notable(
            "repeated",
            name,
            f"{name!r} runs {count} times{others}; a layer's name alone means its last call.",
            f"Name one call as '{name}#0', or all of them as '{name}#*'.",
        )
    if seen.unused:
        yield notable(
            "unused",
            seen.unused[0],
            f"{_first(seen.unused, 'module with weights', 'modules with weights')} not used for this answer.",
            "Choose other layers ('whycam layers'); check that the part is meant to be idle.",
        )


def of_zero(modules: Sequence[str]) -> Iterator[Finding]:
    """Modules whose output is nothing but zeros."""
    if modules:
        yield notable(
            "dead layer",
            modules[0],
            f"{_first(modules, 'module', does='returns', do='return')} nothing but zeros for this input.",
            "Try a photo; if it stays so, the weights are untrained or the units are dead.",
        )


def of_non_finite(cause: str) -> Finding:
    """An output that is not finite, and where that began, as `network/diagnosis/non_finite.py` says it."""
    module = cause.removeprefix("layer ").strip("'") if cause.startswith("layer ") else ""
    return problem(
        "non-finite",
        module,
        f"The output is not finite: NaN or infinity first appears in {cause}.",
        "Check the input and the weights there; half precision overflows above 65,504.",
    )


def of_cuts(found: Sequence[Cut], refusal: str | None) -> Iterator[Finding]:
    """What ends the gradient's way to the input; `refusal` is why no map can be made from gradients, if so."""
    if refusal is not None and found and str(found[0]) in refusal:
        yield problem(
            "cut gradient",
            found[0].module,
            f"No gradient reaches the layer that is explained: it ends at {found[0]}.",
            "Let gradients through there, or use a method that needs none, such as eigen_cam.",
        )
    elif refusal is not None:
        yield problem(
            "cut gradient",
            "",
            sentence(f"No map can be made from gradients: {refusal}"),
            "Until that is put right use a method that needs no gradient, such as eigen_cam.",
        )
    elif found:
        yield notable(
            "cut gradient",
            found[0].module,
            f"On its way to the input the gradient ends at {found[0]}.",
            "Nothing to do for layers behind that; those before it, and guided_backprop, have no gradient.",
        )


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
            "",
            f"The network returns several outputs of shape {_sizes(answer.shape)}: output{part} is explained, and "
            f"{' and '.join(f'output{each}' for each in others[:3])} not.",
            f"If another is meant, name it: output={others[0].lstrip('.')!r}.",
        )
    if embedding:
        yield problem(
            "answer",
            "",
            f"The output{part} is an embedding ({embedding}), whose largest number is no class.",
            "Pass target=, such as its similarity to another embedding, or name class scores with output=.",
        )
    elif answer.ndim > 2:
        yield problem(
            "answer",
            "",
            f"The output has shape {_sizes(answer.shape)}, from which no class can be read.",
            "Pass target=, a function from the output to one score for each sample.",
        )
    elif len(answer) != samples:
        yield problem(
            "answer",
            "",
            f"The output has shape {_sizes(answer.shape)} for {_counted(samples, 'sample', verb=False)}.",
            "Let the network return one row of scores for each sample.",
        )
    elif answer.ndim == 1 or answer.shape[1] == 1:
        yield notable(
            "one unit",
            "",
            "The output is one number: class 1 is its own side, class 0 the other.",
            "Ask for either with target=1 or target=0; the default is the side it predicts.",
        )
    elif bool((answer == answer[:, :1]).all()):
        yield problem(
            "constant answer",
            "",
            f"All {answer.shape[1]} classes have the same score, {float(answer[0, 0]):g}: the head may not be trained.",
            "Load trained weights; a head that starts at zero has no gradient to explain.",
        )
    if probability:
        yield notable(
            "probability",
            "",
            "The output already is a probability, whose gradient vanishes where the network is sure.",
            "Return the logits, or explain whycam.targets.LogProbability().",
        )


def of_layer(layer: Layer, readings: Sequence[Layout], writer: str | None, *, dead: bool) -> Iterator[Finding]:
    """What can be said of a layer that was chosen.

    `readings` are the ways to read its axes; `writer` is the module that wrote over what it returned, `""` if that is
    the network's own code and `None` if nobody did; `dead` whether all it returned was zero.
    """
    if unread := _UNREAD.search(layer.why):
        yield notable(
            "layer",
            layer.name,
            f"The score does not depend on the locations of {unread[1]}, the last feature: {layer.name!r} is used.",
            "Nothing to do; named by hand, the last feature would give an empty map.",
        )
    if "whose positions lie as in the input" in layer.why:
        yield notable(
            "location",
            layer.name,
            sentence(layer.why),
            "Nothing to do; named by hand, the later layer is refused, since its map would be drawn in wrong places.",
        )
    if layer.location == "undetermined":
        yield notable(
            "location",
            layer.name,
            f"It cannot be told where in the input the positions of {layer.name!r} lie: a change of one half of the "
            "input reaches all of them.",
            "With trained weights try again; otherwise check on a photo whose object you know.",
        )
    alike = _ambiguous(layer, readings)
    if alike and layer.location != "verified":
        yield notable(
            "layout",
            layer.name,
            f"The axes of {layer.name!r}, {_sizes(layer.shape)}, can be read in {len(alike) + 1} ways: as "
            f"{layer.layout}, which was taken, or as {' or '.join(map(str, alike))}.",
            "If that is wrong pass layout= (whycam.layouts).",
        )
    if writer is not None:
        yield notable(
            "in-place",
            layer.name,
            f"{repr(writer) if writer else 'The network'} writes over what {layer.name!r} returned.",
            "Nothing to do: whycam records a copy. Libraries that keep the tensor itself explain what was written.",
        )
    if dead:
        yield problem(
            "dead layer",
            layer.name,
            f"{layer.name!r}, where the map is made, returns nothing but zeros for this input.",
            "Try a photo; if it stays so, name an earlier layer.",
        )


def _ambiguous(layer: Layer, readings: Sequence[Layout]) -> list[Layout]:
    """Other readings of a layer's axes that fit as well as the one taken.

    Tokens are told apart by how many precede the patches; the axes of an image by their sizes, unless those are equal.
    """
    others = [each for each in readings if str(each) != layer.layout]
    return [each for each in others if isinstance(each, Tokens) or each.grid(layer.shape) == layer.grid]


def _first(names: Sequence[str], thing: str, things: str = "", *, does: str = "is", do: str = "are") -> str:
    """`'bn' is`, or `'bn' and 2 other modules are`."""
    if len(names) == 1:
        return f"{names[0]!r} {does}"
    others = len(names) - 1
    return f"{names[0]!r} and {others} other {thing if others == 1 else things or thing + 's'} {do}"


def _counted(number: int, thing: str, *, verb: bool = True) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}" + (f" {'is' if number == 1 else 'are'}" if verb else "")


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _sizes(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
