"""Why a peer's map is another than whycam's, and a check that nothing else is at work.

A reason names the peer's file. Its twin makes the peer's map again from whycam's own quantities with the peer's step
put in; where the two are equal, the reason is the whole reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from agreement import Agreement, Scale, compared
from tasks import COPIES, NOISE, SAMPLES, Task
from torch import Tensor, nn

from whycam.kit.arrays import lazily, normalize, pool, resize, total, weighted_sum

#: Where torch's and numpy's random numbers start when a peer is asked, since none of them takes a seed.
SEED = 0

Twin = Callable[[Task, nn.Module], Tensor]


@dataclass(frozen=True)
class Reason:
    """Why maps differ.

    Attributes:
        words: what the peer does, what whycam does, and why. `where`: the peer's file and lines.
        twin: (task, network) -> the peer's map.
        turned: whether the peer leaves the sign to chance, so that either will do.
    """

    words: str
    where: str
    twin: Twin | None = None
    turned: bool = False

    def check(self, task: Task, network: nn.Module, theirs: Tensor, scale: Scale) -> Agreement | None:
        """How far the twin is from the peer's map."""
        if self.twin is None:
            return None
        made = self.twin(task, network)
        either = [made, -made] if self.turned else [made]
        return min((compared(each, theirs, scale) for each in either), key=lambda each: each.largest)


def seed() -> None:
    """Start the random numbers of libraries that take no seed."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)


def by(method: Callable[..., Tensor], **changes: Any) -> Twin:
    """A twin that is another method on the same quantities."""
    return lambda task, network: task.explain(network, method, **changes).maps


def its_own(**options: Any) -> Twin:
    """A twin that is whycam's method with other options."""
    return lambda task, network: task.explain(network, task.method, **{**task.options, **options}).maps


# Weights from gradients ----------------------------------------------------------------------------------------------


def _plus_plus_with_epsilon(activations: Tensor, gradients: Tensor) -> Tensor:
    second, third = gradients**2, gradients**3
    alphas = second / (2 * second + total(activations)[..., None, None] * third + 1e-6)
    weights = total(gradients.relu() * alphas.where(gradients != 0, 0 * alphas))
    return weighted_sum(weights, activations).relu()


def _cubes(activations: Tensor, gradients: Tensor) -> Tensor:
    return weighted_sum(total(gradients.relu() ** 3), activations).relu()


def _smooth_of_the_last(activations: Tensor, inputs: Tensor, trace: Any) -> Tensor:
    seed()
    noise = torch.distributions.Normal(0, NOISE)
    noisy = [inputs + noise.sample(inputs.shape) for _ in range(COPIES)]
    runs = list(trace(noisy))
    gradients = [run.gradients for run in runs]
    second, third = (torch.stack([each**power for each in gradients]).mean(0) for power in (2, 3))
    alphas = second / (2 * second + total(third * activations)[..., None, None] + 1e-8)
    return weighted_sum(total(alphas * gradients[-1].relu()), runs[-1].activations).relu()


def _marked_share(activations: Tensor) -> Tensor:
    flat = activations.flatten(2)
    marked = flat > flat.mean(2, keepdim=True) + 2 * flat.std(2, correction=0, keepdim=True)
    return weighted_sum(marked.float().mean(2), activations)


def _drawn_by_numpy(activations: Tensor) -> Tensor:
    seed()
    weights = np.random.uniform(-1, 1, size=activations.shape[:2])
    return weighted_sum(torch.from_numpy(weights).to(activations), activations).relu()


# Edited inputs -------------------------------------------------------------------------------------------------------


def _padded_unit(maps: Tensor) -> Tensor:
    """Each channel over [0, 1], with an epsilon; flat ones become 0 and stay."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def _weighed(activations: Tensor, scores: Tensor) -> Tensor:
    return weighted_sum(scores.mT.softmax(1), activations).relu()


def _corners_aligned(activations: Tensor, inputs: Tensor, score: Any) -> Tensor:
    size = inputs.shape[2:]

    def shown(channel: int) -> Tensor:
        mask = F.interpolate(activations[:, channel : channel + 1], size, mode="bilinear", align_corners=True)
        return inputs * _padded_unit(mask)

    return _weighed(activations, score(lazily(shown, range(activations.shape[1]))))


def _scaled_first(draws: int, coefficient: Callable[[int], float], noise: bool = False) -> Callable[..., Tensor]:
    def method(activations: Tensor, inputs: Tensor, score: Any) -> Tensor:
        size, channels = inputs.shape[2:], activations.shape[1]
        units = _padded_unit(activations)
        seed()
        drawn: list[Tensor] = []

        def shown(number: int) -> Tensor:
            draw, channel = divmod(number, channels)
            if noise and channel == 0:
                drawn[:] = [torch.distributions.Normal(0, 2.0).sample((len(inputs), channels, *size))]
            mask = F.interpolate(units[:, channel : channel + 1], size, mode="bilinear", align_corners=False)
            mask = mask + drawn[0][:, channel : channel + 1] if noise else mask
            return coefficient(draw) * mask * inputs

        scores = score(lazily(shown, range(draws * channels)))
        return _weighed(activations, scores.unflatten(0, (draws, channels)).mean(0))

    return method


def _adding_up(draw: int) -> float:
    return sum((each + 1) / SAMPLES for each in range(draw + 1))


def _huge_and_signed(activations: Tensor, scores: Tensor, score_from: Any) -> Tensor:
    lowest = activations.amin()

    def without(channel: int) -> Tensor:
        ablated = activations.clone()
        # written again for every row of a batch of 32, each time below the last
        ablated[:, channel] = 0 if lowest == 0 else lowest - 1e7 * (channel % 32 + 1)
        return ablated

    left = score_from(lazily(without, range(activations.shape[1]))).mT
    return weighted_sum((scores[:, None] - left) / scores[:, None], activations).relu()


# At the input --------------------------------------------------------------------------------------------------------


def _each_channel_scaled(inputs: Tensor, input_gradients: Tensor, bias_gradients: Any) -> Tensor:
    def scaled(terms: Tensor) -> Tensor:
        # cv2 resizes every channel by itself, after it was scaled
        flat = normalize(terms.abs().flatten(0, 1), "minmax")
        return resize(flat, inputs.shape[2:]).unflatten(0, terms.shape[:2]).sum(1)

    maps = scaled(inputs * input_gradients)
    for each in bias_gradients:
        if each.gradients.ndim == 4:
            maps += scaled(each.bias[:, None, None] * each.gradients)
    return maps


def _plain_gradient(input_gradients: Tensor) -> Tensor:
    return input_gradients.sum(1)


def _nearest(activations: Tensor, gradients: Tensor, guided_gradients: Tensor) -> Tensor:
    places = weighted_sum(pool(gradients), activations).relu()[:, None]
    return (F.interpolate(places, guided_gradients.shape[2:], mode="nearest") * guided_gradients).sum(1)


def _nearest_and_plain(activations: Tensor, gradients: Tensor, input_gradients: Tensor) -> Tensor:
    return _nearest(activations, gradients, input_gradients)


def has_relu_modules(network: nn.Module) -> bool:
    """Whether the peers find a ReLU to guide."""
    return any(isinstance(module, nn.ReLU) for module in network.modules())


# Targets and fusions -------------------------------------------------------------------------------------------------


def _leaking_contrast(task: Task, network: nn.Module) -> Tensor:
    def bound(output: Tensor) -> Tensor:
        logits = output[0].detach()
        nearest = (logits - logits[task.class_index]).abs().argsort()
        weights = output.softmax(1)[:, nearest[1:4]]
        contrasts = output[:, nearest[:1]] - output[:, nearest[1:4]]
        return (weights * contrasts).sum(1) / (weights.sum(1) + 1e-9)

    return task.explain(network, target=bound).maps


def _product_at(at_the_input: bool) -> Twin:
    def twin(task: Task, network: nn.Module) -> Tensor:
        maps = [task.explain(network, layer=each, fusion=None).maps for each in task.layers]
        size = task.inputs.shape[2:] if at_the_input else maps[0].shape[1:]
        enlarged = [resize(normalize(each, "minmax"), size) for each in maps]
        # there an enlarged map has lost its peak, and is scaled once more
        return torch.stack([normalize(each, "minmax") if at_the_input else each for each in enlarged]).prod(0)

    return twin


def _all_bent(task: Task, network: nn.Module) -> Tensor:
    maps = [task.explain(network, layer=each, fusion=None).maps for each in task.layers]
    bent = [torch.tanh(2 * normalize(each, "minmax")) for each in maps]
    return torch.stack([resize(each, maps[0].shape[1:]) for each in bent]).amax(0)


# -------------------------------------------------------------------------------------------------------------------

_SIGN = (
    "A principal direction has no sign. pytorch-grad-cam leaves it to the decomposition, so that about half of its "
    "maps are turned round, and then keeps the positive part"
)
_FLAT = (
    "An epsilon in the divisor gives channels that are flat, and mask nothing, a part in the softmax; whycam leaves "
    "them out."
)
_UNSEEDED = "Its noise is drawn anew from torch's global random state, and no seed can be given."
_SCALED_FIRST = (
    "torchcam scales a channel to [0, 1] at the layer's size and then enlarges it, so that a mask need not reach 0 or "
    "1; the paper and its authors enlarge first. " + _FLAT
)
_MODULES = (
    "{} guides modules of the class nn.ReLU alone. This network's activations are ReLU6, which it does not find; it "
    "returns the plain gradient without a word. whycam works on the functions."
)

#: (the task's name, the library) -> why.
REASONS: dict[tuple[str, str], Reason] = {
    ("grad_cam", "captum"): Reason(
        "captum takes the second axis for the channels. Here it is the tokens: it averages the features away and sums "
        "over the places, so that nothing is left to look at.",
        "captum/attr/_core/layer/grad_cam.py:212-229",
    ),
    ("grad_cam_plus_plus", "pytorch-grad-cam"): Reason(
        "An epsilon of 1e-6 is added to a denominator made of squared gradients, which are no larger; the map becomes "
        "another method's, by the scale of the logits. whycam uses the formula divided through by the square, which "
        "needs none.",
        "pytorch_grad_cam/grad_cam_plusplus.py:21-35",
        by(_plus_plus_with_epsilon),
    ),
    ("grad_cam_plus_plus", "torchcam"): Reason(
        "The denominator divides a copy that is thrown away, so that a channel's weight is the sum of its cubed "
        "positive gradients.",
        "torchcam/methods/gradient.py:190-206",
        by(_cubes),
    ),
    ("xgrad_cam", "pytorch-grad-cam"): Reason(
        "An epsilon of 1e-7 is added to the sum of a channel's activations. Where signed channels add up to next to "
        "nothing it decides the picture.",
        "pytorch_grad_cam/xgrad_cam.py:24-31",
    ),
    ("xgrad_cam", "torchcam"): Reason(
        "An epsilon of 1e-8 is added to the sum of a channel's activations. Where signed channels add up to next to "
        "nothing it decides the picture.",
        "torchcam/methods/gradient.py:391-407",
    ),
    ("eigen_cam", "pytorch-grad-cam"): Reason(
        f"{_SIGN}; it also subtracts the mean over places, which the method does not (`center=True` here).",
        "pytorch_grad_cam/utils/svd_on_activations.py:5-20",
        its_own(center=True),
        turned=True,
    ),
    ("eigen_grad_cam", "pytorch-grad-cam"): Reason(
        f"{_SIGN}.", "pytorch_grad_cam/utils/svd_on_activations.py:5-20", its_own(), turned=True
    ),
    ("kpca_cam", "pytorch-grad-cam"): Reason(
        f"{_SIGN}.", "pytorch_grad_cam/utils/svd_on_activations.py:23-38", its_own(), turned=True
    ),
    ("fem", "pytorch-grad-cam"): Reason(
        "It weighs a channel's activations by the share of places that stand out; the method marks those places and "
        "weighs the marks by the channel's mean.",
        "pytorch_grad_cam/fem.py:36-45",
        by(_marked_share),
    ),
    ("random_cam", "pytorch-grad-cam"): Reason(
        "Other random weights: numpy's global state there, a seed here.",
        "pytorch_grad_cam/random_cam.py:17-23",
        by(_drawn_by_numpy),
    ),
    ("grad_cam of a contrast (Finer-CAM)", "pytorch-grad-cam"): Reason(
        "The references are weighted by their probabilities, and the gradient flows through these weights too, so that "
        "it is not the contrast's. whycam, and torchcam, take the plain mean of the three, times 0.6.",
        "pytorch_grad_cam/utils/model_targets.py:118-142",
        _leaking_contrast,
    ),
    ("grad_cam, product of two layers (Refine-CAM)", "pytorch-grad-cam"): Reason(
        "It multiplies the maps at the input's size, and scales each before it is enlarged and again after; whycam "
        "multiplies at the finest layer's size, and scales after enlarging.",
        "pytorch_grad_cam/refine_cam.py:29-47",
        _product_at(at_the_input=True),
    ),
    ("grad_cam, product of two layers (Refine-CAM)", "torchcam"): Reason(
        "It scales each map before it is enlarged to the finest layer's size, whycam after.",
        "torchcam/methods/gradient.py:899-926",
        _product_at(at_the_input=False),
    ),
    ("layer_cam, two layers by tanh", "torchcam"): Reason(
        "It bends the maps of all layers by tanh; the paper bends the shallow ones, which are weak, and leaves the "
        "deep.",
        "torchcam/methods/gradient.py:456-459",
        _all_bent,
    ),
    ("full_grad", "pytorch-grad-cam"): Reason(
        "Every channel is scaled to [0, 1] by itself, so that a dead one weighs as much as the strongest; the paper "
        "scales all channels of a layer together.",
        "pytorch_grad_cam/fullgrad_cam.py:44-77",
        by(_each_channel_scaled),
    ),
    ("guided_backprop", "pytorch-grad-cam"): Reason(
        _MODULES.format("pytorch-grad-cam"), "pytorch_grad_cam/guided_backprop.py:71-101", by(_plain_gradient)
    ),
    ("guided_backprop", "captum"): Reason(
        _MODULES.format("captum"), "captum/attr/_core/guided_backprop_deconvnet.py:93-110", by(_plain_gradient)
    ),
    ("guided_grad_cam", "captum"): Reason(
        "The map is enlarged by nearest neighbors, which its own docstring says the paper does not do; and where a "
        "network has ReLU6 in place of nn.ReLU, the guided gradient is the plain one.",
        "captum/attr/_core/guided_grad_cam.py:76, 133-138",
        lambda task, network: task.explain(network, _nearest if has_relu_modules(network) else _nearest_and_plain).maps,
    ),
    ("smooth_grad_cam_plus_plus", "torchcam"): Reason(
        "It multiplies by the gradient of the last noisy copy in place of their mean, weighs the activations of that "
        "copy in place of the picture's, and adds up activations times cubed gradients place by place, where the "
        f"formula has the sum of all activations. {_UNSEEDED}",
        "torchcam/methods/gradient.py:309-347",
        by(_smooth_of_the_last),
    ),
    ("score_cam", "pytorch-grad-cam"): Reason(
        "Masks are enlarged with corners aligned; the paper's authors, and the maps themselves, are aligned by pixel "
        f"centers. {_FLAT}",
        "pytorch_grad_cam/score_cam.py:24-37",
        by(_corners_aligned),
    ),
    ("score_cam", "torchcam"): Reason(
        _SCALED_FIRST,
        "torchcam/methods/activation.py:188-200, 263-283; core.py:193-203",
        by(_scaled_first(1, lambda draw: 1.0)),
    ),
    ("ss_cam", "torchcam"): Reason(
        f"{_UNSEEDED} Each channel has draws of its own, so that luck tells them apart as well. {_SCALED_FIRST}",
        "torchcam/methods/activation.py:355-387",
        by(_scaled_first(SAMPLES, lambda draw: 1.0, noise=True)),
    ),
    ("is_cam", "torchcam"): Reason(
        "It adds its steps up, so that with ten of them the last input is 5.5 times as bright as the picture; a path "
        f"from nothing to the input ends at the input. {_SCALED_FIRST}",
        "torchcam/methods/activation.py:455-489",
        by(_scaled_first(SAMPLES, _adding_up)),
    ),
    ("ablation_cam", "pytorch-grad-cam"): Reason(
        "Where a layer goes below zero a channel is set to a huge negative number in place of 0, a larger one for each "
        "row of a batch; in a transformer the class token's too, which no map shows. (And it divides by the score: "
        "where that is negative, every weight is turned round.)",
        "pytorch_grad_cam/ablation_layer.py:72-83, ablation_cam.py:145",
        by(_huge_and_signed),
    ),
    ("deep_feature_factorization", "pytorch-grad-cam"): Reason(
        "A factorization has many solutions: pytorch-grad-cam starts at random and subtracts each channel's least "
        "value first.",
        "pytorch_grad_cam/feature_factorization/deep_feature_factorization.py:10-35",
    ),
}


def reason(task: Task, library: str) -> Reason | None:
    """Why this peer's map may differ."""
    return REASONS.get((task.name, library))
