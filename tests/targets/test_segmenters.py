"""What redraws a dense answer, how far the chosen layers look, and what else answers for each place."""

import sys
from pathlib import Path

import pytest
import segmenters
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "toys"))
import marker

import whycam
from whycam.network.layers.features import features
from whycam.targets import Region


def support(model, layer, inputs, scores):
    """The share of a layer's locations that bear on what is said of one place, by plain autograd."""
    kept = []

    def keep(module, given, output):
        kept.append(output)
        return output.clone()

    handle = model.get_submodule(layer).register_forward_hook(keep)
    answer = scores(model(inputs.requires_grad_()))
    handle.remove()
    at = tuple(side // 2 for side in answer.shape[2:])
    weights = torch.linspace(0.5, 1.5, answer.shape[1], dtype=answer.dtype)
    (gradient,) = torch.autograd.grad((answer[(0, slice(None), *at)] * weights).sum(), kept[-1])
    return float((gradient[0] != 0).any(0).double().mean()), gradient[0].abs().sum(0)


@pytest.mark.parametrize(
    ("layer", "redraws"),
    [("head", True), ("decoder.3", True), ("decoder.3.4", True), ("decoder.3.3", True), ("decoder.3.2", False),
     ("decoder.2", False), ("decoder.0", False), ("bottleneck", False), ("encoder.0", False)],
)  # fmt: skip
def test_a_layer_redraws_the_mask_where_one_place_reads_one_cell(layer, redraws):
    model, scene = marker.segmenter(), marker.scene(0)
    picture = scene.picture()[None]
    share, gradient = support(model, layer, picture.clone(), lambda output: output)
    assert (int((gradient != 0).sum()) == 1) == redraws
    assert (share == 1 / 64**2) == redraws
    target = Region(int(scene.truth().max()), mask=scene.inside())
    for method in ("hires_cam", "grad_cam", "score_cam")[: 3 if layer == "decoder.3" else 2]:
        asked = {"probability": False} if method == "score_cam" else {}
        e = whycam.explain(model, picture, method, target=target, layer=layer, **asked)
        assert (e.status[0].kind == "redraws the mask") == redraws
        assert e.status[0].message.endswith("Choose an earlier layer, or leave layer out.") == redraws


@pytest.mark.parametrize("name", ["deeplabv3", "segformer", "smp unet", "smp fpn", "monai unet", "dynunet, 3-D"])
def test_the_bottleneck_sees_most_of_the_picture_and_what_is_passed_over_does_not(name):
    model, inputs, by_hand, bottleneck, _ = segmenters.built(name)
    share, _ = support(model, bottleneck, inputs.clone(), by_hand)
    assert share > 0.5


def test_a_change_of_size_alone_does_not_make_a_layer_a_reason():
    """torchvision's heads answer on a coarse grid that is enlarged: the layer before the last convolution redraws."""
    model, inputs, *_ = segmenters.built("deeplabv3")
    for layer, redraws in (("classifier.3", True), ("classifier.0", False)):
        e = whycam.explain(model, inputs, "layer_cam", target=Region(1, "everywhere"), layer=layer)
        assert (e.status[0].kind == "redraws the mask") == redraws


class Flat(nn.Module):
    """An answer for each place from one row of numbers: the places before the row are mixed, not redrawn."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.row = nn.Linear(4 * 8 * 8, 2 * 8 * 8)

    def forward(self, inputs):
        return self.row(self.body(inputs).flatten(1)).reshape(-1, 2, 8, 8)


def test_a_linear_layer_over_all_places_mixes_them():
    torch.manual_seed(0)
    e = whycam.explain(Flat(), torch.rand(1, 3, 16, 16), "hires_cam", target=Region(1, "everywhere"), layer="body")
    assert e.status[0].ok


class Beside(nn.Module):
    """An answer made of a feature by two ways, of which one looks at the neighbors."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.one, self.other = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, inputs):
        features = self.body(inputs)
        return self.one(features) + self.other(features)


def test_no_layer_redraws_that_looks_aside_by_another_way():
    torch.manual_seed(0)
    e = whycam.explain(Beside(), torch.rand(1, 3, 16, 16), "layer_cam", target=Region(1, "everywhere"), layer="body")
    assert e.status[0].ok


class Windows(nn.Module):
    """A stage that works in four windows, which are folded into the batch."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.mixed = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, inputs):
        features = self.body(inputs)
        windows = features.reshape(len(inputs), 4, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        windows = self.stage(windows).reshape(len(inputs), 2, 2, 4, 4, 4).permute(0, 3, 1, 4, 2, 5)
        return self.head(self.mixed(windows.reshape(features.shape)))


def test_windows_are_no_coarser_stage():
    torch.manual_seed(0)
    found = whycam.compare(Windows(), torch.rand(1, 3, 16, 16), ["layer_cam"], targets=[Region(1, "everywhere")])
    assert [each.layer.name for each in found.values()] == ["body"]  # which sees past its neighbors
    assert next(iter(found.values())).layer.why.startswith("the last feature on the coarsest grid (8x8)")


def test_a_function_of_a_dense_answer_is_explained_at_the_bottleneck_too():
    model, picture = marker.segmenter(), marker.scene(0).picture()[None]
    score = lambda output: output[:, 1].mean((1, 2))  # noqa: E731
    e = whycam.explain(model, picture, target=score)
    assert e.layer.name.startswith("bottleneck")
    assert len(whycam.compare(model, picture, ["layer_cam"], targets=[score])) == 2


def test_the_list_of_layers_marks_the_bottleneck():
    chosen = [each for each in whycam.layers(marker.segmenter(), marker.scene(0).picture()[None]) if each.chosen_for]
    assert [each.name for each in chosen] == ["bottleneck.4", "bottleneck"]
    assert "coarsest grid (4x4)" in chosen[0].why


def test_a_network_that_is_asked_twice_is_not_observed_twice():
    model, picture = marker.segmenter(), marker.scene(0).picture()[None]
    first = whycam.explain(model, picture, target=Region(1, "everywhere"))
    again = whycam.explain(model, picture, target=Region(2, "everywhere"))
    assert (first.method, first.layer.name) == ("hires_cam", "bottleneck")
    assert (first.cost.forwards, first.cost.backwards) == (3, 2)
    assert (again.cost.forwards, again.cost.backwards) == (1, 1)


def test_pixels_are_named_in_pictures_alone():
    model, inputs, *_ = segmenters.built("dynunet, 3-D")
    with pytest.raises(whycam.TargetError, match="a component names pixels, and the output has 3 axes of space"):
        whycam.explain(model, inputs, target=Region(1, point=(3, 3)))


def test_a_bottleneck_of_one_cell_along_an_axis_says_so():
    from monai.networks.nets import UNet

    model = UNet(3, 1, 2, (4, 8, 8, 8), (2, 2, 2)).eval()
    why = [whycam.explain(model, torch.rand(1, 1, depth, 16, 16), target=Region(1)).layer.why for depth in (8, 16)]
    assert "it has a single cell along an axis of the input" in why[0]
    assert "a single cell" not in why[1]


def test_a_side_as_long_as_a_row_of_tokens_hides_no_feature():
    """SegFormer's third stage has 24 tokens here, and its decoder 24 columns: no attention all the same."""
    model, inputs = segmenters.built("segformer")[0], torch.rand(1, 3, 64, 96)
    found, _ = features(model, inputs)
    assert {"decode_head.linear_fuse", "decode_head.batch_norm"} <= {name for each in found for name in each.names}
