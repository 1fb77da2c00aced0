"""The same work for whycam and for the peers that have the method: what is asked, on what, and whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import peers as libraries
from agreement import Scale
from peers import PEERS, Make
from subjects import Subject
from torch import Tensor, nn

import whycam
from whycam import targets
from whycam.kit.registry import find, methods

#: Runs for each channel, in methods that make several: fewer than by default, which would take the peers many minutes.
SAMPLES = 2
#: The noise of Smooth Grad-CAM++, as torchcam has it: so many copies, and this deviation in the inputs' own units.
COPIES, NOISE = 4, 0.3
#: Sizes that SESS enlarges to, of 12 by default, and parts that a factorization has.
SCALES, PARTS = 2, 4
#: What a window must show in SESS to count there. By default that is anything above 0, which rounding then decides.
SHOWN = 1e-3
#: The side and the step of what occlusion hides, as shares of the input's side.
HIDDEN, STEP = 0.2, 0.1

#: Where a method runs the network for every channel (`each`) or several times for every channel (`several`), and the
#: peers run it whole: the side of the input and the layer, chosen so that one library takes some seconds.
SMALLER: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "resnet18": {"each": (128, "layer"), "several": (128, "narrow"), "ablated": (128, "layer")},
    "resnet50": {"each": (128, "narrow"), "several": (96, "narrow"), "ablated": (96, "earlier")},
    "mobilenet_v2": {"each": (128, "layer"), "several": (128, "narrow"), "ablated": (128, "layer")},
    "builtin": {"each": (128, "layer"), "several": (128, "narrow"), "ablated": (128, "layer")},
    "vit_tiny": {"each": (224, "layer"), "several": (224, "layer"), "ablated": (224, "layer")},
}


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        name: whycam's method, and what else tells it from the others.
        layers: those of the question; several are fused by `fusion`. Empty where the method has none.
        target: what whycam explains; the peers are told the class.
        parts: whether the result is several maps of each sample.
        said: what was made smaller, in words.
    """

    name: str
    method: str
    peers: Mapping[str, Make]
    inputs: Tensor
    layers: tuple[str, ...]
    target: Any
    class_index: int
    options: Mapping[str, Any] = field(default_factory=dict)
    fusion: str | None = None
    scale: Scale = "positive"
    parts: bool = False
    said: str = ""

    def explain(self, network: nn.Module, method: Any = None, **changes: Any) -> whycam.Explanation:
        """whycam's answer, or that of another method to the same question."""
        asked: dict[str, Any] = {"target": self.target, "layer": self.layer, "fusion": self.fusion}
        asked |= dict(self.options) if method is None else {}
        chosen = find(self.method if method is None else method)
        if not chosen.class_specific:
            asked.pop("target")
        if not chosen.has_layer:
            asked.pop("layer")
        return whycam.explain(network, self.inputs, chosen.function, progress=False, **asked | changes)

    @property
    def layer(self) -> Any:
        """As whycam is told it."""
        return list(self.layers) if len(self.layers) > 1 else self.layers[0] if self.layers else None

    def answer(self, library: str, network: nn.Module, reshape: Any) -> Callable[[], Tensor]:
        """A peer's maps, when called."""
        module = network.get_submodule(self.layers[-1]) if self.layers else network
        make = self.peers[library](reshape=reshape)
        classes = [self.class_index] * len(self.inputs)
        # some ask for the gradient of what they are given, and do not always undo it
        return lambda: make(network, module, self.inputs.clone(), classes)


def tasks(subject: Subject) -> list[Task]:
    """All that whycam and any peer have, on one network."""
    return [task for task in _tasks(subject) if task.method in methods()]


def _tasks(subject: Subject) -> list[Task]:
    index, whole = subject.target, subject.inputs
    full = partial(_task, subject, inputs=whole, layers=(subject.layer,), target=index)
    made = [full(name, peers, scale="minmax" if name == "cam" else "positive") for name, peers in PEERS.items()]
    made += [
        full("random_cam", {"pytorch-grad-cam": libraries.by_pytorch("RandomCAM")}),
        full("seg_eigen_cam", {"pytorch-grad-cam": libraries.by_pytorch("SegEigenCAM")}),
        full(
            "shapley_cam",
            {"pytorch-grad-cam": libraries.by_pytorch("ShapleyCAM", rest=True)},
            target=targets.ReST(index),
            said="of logit + log-probability",
        ),
        full(
            "grad_cam",
            {"pytorch-grad-cam": libraries.pytorch_finer_cam, "torchcam": libraries.by_torchcam("FinerCAM")},
            name="grad_cam of a contrast (Finer-CAM)",
            target=targets.Contrast(index),
        ),
    ]
    both = (subject.earlier, subject.layer)
    fused = partial(_task, subject, inputs=whole, layers=both, target=index)
    made += [
        fused(
            "grad_cam",
            {
                "pytorch-grad-cam": partial(libraries.pytorch_refine_cam, list(both)),
                "torchcam": partial(libraries.torchcam_refine, list(both)),
            },
            name="grad_cam, product of two layers (Refine-CAM)",
            fusion="product",
        ),
        fused(
            "layer_cam",
            {"torchcam": partial(libraries.torchcam_fused_layer_cam, list(both))},
            name="layer_cam, two layers by tanh",
            fusion="tanh",
        ),
        full("full_grad", {"pytorch-grad-cam": libraries.pytorch_full_grad}, layers=()),
        full(
            "guided_backprop",
            {"pytorch-grad-cam": libraries.pytorch_guided_backprop, "captum": libraries.captum_guided_backprop},
            layers=(),
            scale="signed",
        ),
        full("guided_grad_cam", {"captum": libraries.captum_guided_grad_cam}, scale="signed"),
    ]
    window, stride = (round(share * whole.shape[-1]) for share in (HIDDEN, STEP))
    spread = float(whole.amax() - whole.amin())
    made += [
        full(
            "occlusion",
            {"captum": partial(libraries.captum_occlusion, window, stride)},
            layers=(),
            options={"window": window, "stride": stride, "probability": False},
            scale="signed",
        ),
        full(
            "smooth_grad_cam_plus_plus",
            {"torchcam": libraries.by_torchcam("SmoothGradCAMpp", num_samples=COPIES, std=NOISE)},
            options={"samples": COPIES, "deviation": NOISE / spread},
            said=f"{COPIES} copies",
        ),
        full(
            "sess",
            {"pytorch-grad-cam": libraries.by_pytorch("SESS", num_scales=SCALES, theta=SHOWN)},
            options={"steps": SCALES, "threshold": SHOWN},
            said=f"{SCALES} of 12 sizes, and what shows less than {SHOWN} does not count",
        ),
        full(
            "deep_feature_factorization",
            {"pytorch-grad-cam": partial(libraries.pytorch_factorization, PARTS)},
            options={"concepts": PARTS},
            parts=True,
            said=f"{PARTS} concepts",
        ),
    ]
    made += [
        _smaller(
            subject,
            "score_cam",
            "each",
            {"pytorch-grad-cam": libraries.by_pytorch("ScoreCAM"), "torchcam": libraries.by_torchcam("ScoreCAM")},
        ),
        _smaller(subject, "ablation_cam", "ablated", {"pytorch-grad-cam": libraries.pytorch_ablation_cam}),
        _smaller(
            subject,
            "ss_cam",
            "several",
            {"torchcam": libraries.by_torchcam("SSCAM", num_samples=SAMPLES)},
            {"samples": SAMPLES},
            f"{SAMPLES} of 35 draws",
        ),
        _smaller(
            subject,
            "is_cam",
            "several",
            {"torchcam": libraries.by_torchcam("ISCAM", num_samples=SAMPLES)},
            {"steps": SAMPLES},
            f"{SAMPLES} of 10 steps",
        ),
    ]
    return made


def _task(subject: Subject, method: str, peers: Mapping[str, Make], *, name: str = "", **rest: Any) -> Task:
    return Task(name or method, method, peers, class_index=subject.target, **rest)


def _smaller(
    subject: Subject,
    method: str,
    kind: Literal["each", "several", "ablated"],
    peers: Mapping[str, Make],
    options: Mapping[str, Any] | None = None,
    also: str = "",
) -> Task:
    size, which = SMALLER[subject.name][kind]
    layer = str(getattr(subject, which))
    inputs = subject.at(size)
    channels = subject.channels(layer)
    said = [f"{channels:,} channels of {layer}", also]
    if size != subject.inputs.shape[-1]:
        said.append(f"input of {size} x {size}")
    return _task(
        subject,
        method,
        peers,
        inputs=inputs,
        layers=(layer,),
        target=subject.target,
        options=options or {},
        said=", ".join(filter(None, said)),
    )
