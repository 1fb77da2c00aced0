"""Where CAM applies, and why not where it does not."""

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.targets import Contrast, Counterfactual, LogProbability, MultiLabel, Probability, ReST


def cam_by_hand(model, inputs, rows):
    return torch.einsum("nc,nchw->nhw", rows, model.features(inputs)).detach().float()


@pytest.mark.parametrize(
    ("target", "share"),
    [
        (2, {2: 1.0}),
        (Contrast(2, against=4), {2: 1.0, 4: -1.0}),
        (Contrast(2, against=(3, 4), strength=0.5), {2: 1.0, 3: -0.25, 4: -0.25}),
        (Counterfactual(1), {1: -1.0}),
        (MultiLabel((0, 3)), {0: 1.0, 3: 1.0}),
        (lambda output: 2 * output[:, 1] - output[:, 0], {1: 2.0, 0: -1.0}),
    ],
)
def test_the_rows_are_summed_as_the_target_sums_the_logits(target, share):
    model, inputs = nets.plain(), nets.images()
    rows = sum(weight * model.head.weight[index] for index, weight in share.items()).expand(3, -1)
    found = whycam.explain(model, inputs, "cam", target=target)
    assert found.layer.name == "relu2"
    torch.testing.assert_close(found.maps, cam_by_hand(model, inputs, rows))


def test_a_class_for_each_sample():
    model, inputs = nets.plain(), nets.images()
    found = whycam.explain(model, inputs, "cam", target=[4, 0, 2])
    torch.testing.assert_close(found.maps, cam_by_hand(model, inputs, model.head.weight[[4, 0, 2]]))


@pytest.mark.parametrize("target", [Probability(1), LogProbability(1), ReST(1), lambda output: output[:, 0] ** 2])
def test_a_target_that_is_no_weighted_sum_of_logits_is_refused(target):
    with pytest.raises(whycam.WhycamError, match="no weighted sum of them; use grad_cam"):
        whycam.explain(nets.plain(), nets.images(), "cam", target=target)


class ByConvolution(nets.Plain):
    """1 x 1 convolution as the head, before the pooling or after it."""

    def __init__(self, *, pool_first):
        super().__init__()
        self.head = nn.Conv2d(8, 5, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.pool_first = pool_first

    def forward(self, x):
        x = self.features(x)
        return (self.head(self.pool(x)) if self.pool_first else self.pool(self.head(x))).flatten(1)


@pytest.mark.parametrize("pool_first", [True, False])
def test_a_convolution_may_be_the_head(pool_first):
    model, inputs = nets.fixed(ByConvolution(pool_first=pool_first)), nets.images()
    found = whycam.explain(model, inputs, "cam", target=1, layer="relu2")
    torch.testing.assert_close(found.maps, cam_by_hand(model, inputs, model.head.weight[1].flatten().expand(3, -1)))


def test_a_one_unit_head_has_two_sides():
    model, inputs = nets.plain(classes=1), nets.images()
    for side, sign in ((1, 1.0), (0, -1.0)):
        found = whycam.explain(model, inputs, "cam", target=side)
        torch.testing.assert_close(found.maps, cam_by_hand(model, inputs, sign * model.head.weight.expand(3, -1)))


@pytest.mark.parametrize("seed", range(3))
def test_under_autocast_the_head_is_still_found(seed):
    model, inputs = nets.fixed(nets.Plain(), seed).float(), nets.images(seed=seed).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = whycam.explain(model, inputs, "cam", target=1)
    exact = whycam.explain(model, inputs, "cam", target=1).maps
    torch.testing.assert_close(found.maps, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


class Stretched(nets.Plain):
    """Its answer is that of the form, but for a factor: off by that much in parts of its largest value."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return super().forward(x) * self.factor


@pytest.mark.parametrize(
    ("dtype", "inside", "outside"), [(torch.float64, 0.9e-4, 1.1e-4), (torch.bfloat16, 2e-2, 4.5e-2)]
)
def test_the_form_must_hold_up_to_rounding(dtype, inside, outside):
    inputs = nets.images().to(dtype)
    whycam.explain(nets.fixed(Stretched(1 + inside)).to(dtype), inputs, "cam", target=1)
    with pytest.raises(whycam.WhycamError, match="no linear layer turns the mean"):
        whycam.explain(nets.fixed(Stretched(1 + outside)).to(dtype), inputs, "cam", target=1)


@pytest.mark.parametrize(("share", "linear"), [(0.9e-4, True), (1.3e-4, False)])
def test_the_target_must_be_a_weighted_sum_up_to_rounding(share, linear):
    model, inputs = nets.plain(), nets.images(1)
    beside = share * model(inputs)[0, 1].detach()
    assert beside.abs() > 5e-5  # so that the share decides and not the least that counts
    explain = lambda: whycam.explain(model, inputs, "cam", target=lambda output: output[:, 1] + beside)  # noqa: E731
    if linear:
        explain()
    else:
        with pytest.raises(whycam.WhycamError, match="no weighted sum"):
            explain()


class Deep(nets.Plain):
    """Two linear layers behind the pooling."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(8, 8)

    def forward(self, x):
        return self.head(self.hidden(nets.spatial_mean(self.features(x))).relu())


class Maximum(nets.Plain):
    def forward(self, x):
        return self.head(self.features(x).amax((2, 3)))


@pytest.mark.parametrize("model", [Deep, Maximum, nets.InnerNoGrad])
def test_a_network_of_another_form_is_refused_with_the_reason_and_the_alternative(model):
    network = nets.fixed(model())
    if model is nets.InnerNoGrad:  # the form is right: its value is, too
        assert whycam.explain(network, nets.images(), "cam", target=1).maps.any()
        return
    with pytest.raises(whycam.WhycamError, match=r"no linear layer turns the mean of its 8 channels.*use grad_cam"):
        whycam.explain(network, nets.images(), "cam")


def test_another_layer_is_refused_by_its_width_or_its_values():
    model, inputs = nets.plain(), nets.images()
    with pytest.raises(whycam.WhycamError, match=r"at 'relu1'.*6 channels and the linear layers take 8 values"):
        whycam.explain(model, inputs, "cam", layer="relu1")
    with pytest.raises(whycam.WhycamError, match=r"at 'conv2'.*Record what the pooling is given"):
        whycam.explain(model, inputs, "cam", layer="conv2")


def test_an_output_with_spatial_axes_is_refused():
    model = nets.fixed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1)))
    with pytest.raises(whycam.WhycamError, match="its output has shape"):
        whycam.explain(model, nets.images(), "cam", layer="1", target=lambda output: output[:, 1].mean((1, 2)))


def test_the_same_head_at_one_call_of_a_shared_module():
    model, inputs = nets.fixed(nets.Shared()), nets.images()
    found = whycam.explain(model, inputs, "cam", target=1, layer="conv2")
    torch.testing.assert_close(found.maps, cam_by_hand(model, inputs, model.head.weight[1].expand(3, -1)))
    with pytest.raises(whycam.WhycamError, match="'conv2#0'"):
        whycam.explain(model, inputs, "cam", target=1, layer="conv2#0")
