"""What theory says of the methods on networks small enough to know: no reference implementation is needed.

The network is `score = v . mean(A) + b` over features `A` after a ReLU, unless a test says otherwise. The numbers are
those of the list in the project's own notes on the methods.
"""

import pytest
import torch

from whycam.methods.cam import cam
from whycam.methods.grad_cam import grad_cam
from whycam.methods.grad_cam_elementwise import grad_cam_elementwise
from whycam.methods.grad_cam_plus_plus import grad_cam_plus_plus
from whycam.methods.hires_cam import hires_cam
from whycam.methods.layer_cam import layer_cam
from whycam.methods.xgrad_cam import xgrad_cam

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])
CHANNELS, BIAS = 5, 0.3


@pytest.fixture
def network(space, generator):
    """Features, head and gradients, the last by autograd."""
    features = torch.randn(2, CHANNELS, *space, generator=generator, dtype=torch.float64).relu().requires_grad_()
    head = torch.randn(2, CHANNELS, generator=generator, dtype=torch.float64)
    scores = (head * features.flatten(2).mean(-1)).sum(1) + BIAS
    (gradients,) = torch.autograd.grad(scores.sum(), features)
    return features.detach(), head, scores.detach(), gradients


def deep_gradients(features, generator, score=lambda logits: logits[:, 0]):
    """Gradients that vary over space: a convolution, a ReLU and two linear layers lie above the features."""
    rank = features.ndim - 2
    leaf = features.clone().requires_grad_()
    kernel = torch.randn(4, features.shape[1], *[2] * rank, generator=generator, dtype=torch.float64)
    convolve = (None, torch.conv1d, torch.conv2d, torch.conv3d)[rank]
    hidden = convolve(leaf, kernel).relu().flatten(2).mean(-1)
    logits = (hidden @ torch.randn(4, 6, generator=generator, dtype=torch.float64)).relu()
    logits = logits @ torch.randn(6, 3, generator=generator, dtype=torch.float64)
    return torch.autograd.grad(score(logits).sum(), leaf)[0]


def to_maximum(maps):
    return maps / maps.flatten(1).amax(1).reshape(-1, *[1] * (maps.ndim - 1))


@every_rank
def test_grad_cam_hires_cam_and_xgrad_cam_are_cam(network, space):
    features, head, _, gradients = network
    area = torch.Size(space).numel()
    expected = cam(features, head) / area
    torch.testing.assert_close(hires_cam(features, gradients), expected)
    torch.testing.assert_close(grad_cam(features, gradients), expected.relu())
    torch.testing.assert_close(xgrad_cam(features, gradients), expected.relu())


@every_rank
def test_identity_1_hires_cam_and_xgrad_cam_add_up_to_the_score_less_its_bias(network):
    features, _, scores, gradients = network
    torch.testing.assert_close(hires_cam(features, gradients).flatten(1).sum(1), scores - BIAS)
    signed = xgrad_cam(features, gradients) - xgrad_cam(features, -gradients)  # relu(x) - relu(-x) = x
    torch.testing.assert_close(signed.flatten(1).sum(1), scores - BIAS)


@every_rank
def test_identity_2_grad_cam_plus_plus_in_closed_form_which_is_not_cam(network, space):
    features, head, _, gradients = network
    area = torch.Size(space).numel()
    slope = head / area
    weights = area * slope.relu() / (2 + slope * features.flatten(2).sum(-1))
    expected = torch.einsum("nk,nk...->n...", weights, features)
    torch.testing.assert_close(grad_cam_plus_plus(features, gradients), expected)
    assert not torch.allclose(to_maximum(expected), to_maximum(cam(features, head)).relu(), rtol=1e-3)


@every_rank
def test_identity_3_layer_cam_is_cam_of_the_positive_weights(network, space):
    features, head, _, gradients = network
    expected = cam(features, head.relu()) / torch.Size(space).numel()
    torch.testing.assert_close(layer_cam(features, gradients), expected)
    torch.testing.assert_close(grad_cam_elementwise(features, gradients), expected)


@every_rank
@pytest.mark.parametrize("scale", [1e-6, 0.1, 50])
@pytest.mark.parametrize("method", [grad_cam, hires_cam, xgrad_cam, layer_cam, grad_cam_elementwise])
def test_identity_5_the_scores_scale_leaves_normalized_maps_unchanged(method, scale, space, network, generator):
    features = network[0]
    gradients = deep_gradients(features, generator)
    torch.testing.assert_close(method(features, scale * gradients), scale * method(features, gradients))


@every_rank
def test_identity_5_grad_cam_plus_plus_does_change(space, network, generator):
    features = network[0]
    gradients = deep_gradients(features, generator)
    once, more = (to_maximum(grad_cam_plus_plus(features, scale * gradients)) for scale in (1, 50))
    assert not torch.allclose(once, more, rtol=1e-3, equal_nan=True)


@every_rank
@pytest.mark.parametrize(
    "method", [grad_cam, grad_cam_plus_plus, hires_cam, xgrad_cam, layer_cam, grad_cam_elementwise]
)
def test_identity_6_a_constant_added_to_the_score_changes_nothing(method, space, network):
    features = network[0]
    plain = deep_gradients(features, torch.Generator().manual_seed(1))
    raised = deep_gradients(features, torch.Generator().manual_seed(1), lambda logits: logits[:, 0] + 1000)
    torch.testing.assert_close(method(features, raised), method(features, plain))


@every_rank
def test_identity_10_grad_cam_before_the_positive_part_is_linear_in_the_score(space, network):
    features = network[0]

    def before(score):
        gradients = deep_gradients(features, torch.Generator().manual_seed(1), score)
        return grad_cam(features, gradients) - grad_cam(features, -gradients)

    contrast = before(lambda logits: logits[:, 0] - 0.6 * logits[:, 1])
    parts = before(lambda logits: logits[:, 0]) - 0.6 * before(lambda logits: logits[:, 1])
    torch.testing.assert_close(contrast, parts)


@every_rank
def test_hires_cam_is_layer_cam_less_what_speaks_against(space, network, generator):
    features = network[0]
    gradients = deep_gradients(features, generator)
    difference = layer_cam(features, gradients) - layer_cam(features, -gradients)
    torch.testing.assert_close(hires_cam(features, gradients), difference)
