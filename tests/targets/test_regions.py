"""Regions of segmentations and keypoints of heat maps, by loops in float64, and what adds up to their scores."""

import math
from types import SimpleNamespace

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.targets import Keypoint, Region
from whycam.targets.outputs import dense
from whycam.targets.regions import area
from whycam.targets.structured import OutputContext

H, W = 12, 16


class Segmenter(nn.Module):
    """Its head has no bias, so that gradient times activation of the features adds up to the score."""

    def __init__(self, classes=3, key=None, stride=2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, stride, 1), nn.ReLU())
        self.head = nn.Conv2d(5, classes, 1, bias=False)
        self.key = key

    def forward(self, inputs):
        scores = self.head(self.body(inputs))
        return scores if self.key is None else {self.key: scores}


@pytest.fixture(scope="module")
def case():
    model = nets.fixed(Segmenter()).double()
    torch.manual_seed(1)
    inputs = torch.rand(2, 3, H, W, dtype=torch.float64)
    return model, inputs, model(inputs).detach()


def by_loops(scores, weights, reduce):
    total = [
        sum(float(s) * float(w) for s, w in zip(row.flatten(), weight.flatten(), strict=True))
        for row, weight in zip(scores, weights, strict=True)
    ]
    return [t / float(w.sum()) if reduce == "mean" else t for t, w in zip(total, weights, strict=True)]


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("of", [0, 1, 2])
def test_the_predicted_region_and_what_adds_up_to_its_score(case, of, reduce):
    model, inputs, scores = case
    weights = (scores.argmax(1) == of).double()
    found = whycam.explain(model, inputs, "hires_cam", target=Region(of, reduce=reduce), layer="body")
    expected = by_loops(scores[:, of], weights, reduce)
    for i in range(2):
        if not weights[i].any():
            assert found.status[i].kind == "nothing to explain"
            assert "is not predicted anywhere; predicted are class" in found.status[i].message
            continue
        assert float(found.scores[i]) == pytest.approx(expected[i], rel=1e-6)
        assert float(found.maps[i].sum()) == pytest.approx(expected[i], rel=1e-5)


def test_every_pixel_is_the_class_of_a_network_that_pools(case):
    model, inputs, _ = case
    pooled = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    one = whycam.explain(model, inputs, target=Region(1, "everywhere"), layer="body")
    other = whycam.explain(pooled, inputs, "hires_cam", target=1, layer="0.body")
    torch.testing.assert_close(one.maps, other.maps)
    whole = whycam.explain(model, inputs, target=Region(1, mask=torch.ones(5, 7)), layer="body")
    torch.testing.assert_close(one.maps, whole.maps)


def test_without_biases_every_layer_adds_up_to_the_score():
    """A ReLU network without biases is linear around its input: each layer's gradient times activation is the score."""
    layers = [nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, 1, 1), nn.ReLU()]
    layers += [nn.Upsample(scale_factor=2), nn.Conv2d(6, 3, 3, 1, 1)]
    model = nets.fixed(nn.Sequential(*layers)).double()
    for each in layers:
        if isinstance(each, nn.Conv2d):
            each.bias = None
    torch.manual_seed(2)
    inputs = torch.rand(2, 3, H, W, dtype=torch.float64)
    with torch.no_grad():
        scores = model(inputs)
    mask = torch.zeros(H, W)
    mask[2:9, 3:11] = 1
    expected = (scores[:, 1] * mask).sum((1, 2)) / mask.sum()
    for layer in range(6):
        e = whycam.explain(model, inputs, "hires_cam", target=Region(1, mask=mask), layer=str(layer))
        torch.testing.assert_close(e.maps.double().sum((1, 2)), expected, rtol=1e-5, atol=1e-7)


def test_a_mask_is_taken_to_the_output_by_area(case):
    model, inputs, scores = case
    mask = torch.zeros(H, W)
    mask[3, :] = 1  # a line of one pixel, half a cell high
    share = torch.zeros(H // 2, W // 2, dtype=torch.float64)
    share[1, :] = 0.5
    assert torch.equal(area(mask.double(), (H // 2, W // 2)), share)
    found = whycam.explain(model, inputs, target=Region(2, mask=mask, reduce="sum"), layer="body")
    assert found.scores.tolist() == pytest.approx(by_loops(scores[:, 2], share.expand(2, -1, -1), "sum"), rel=1e-6)
    own = torch.stack([mask, mask.flip(0)])
    each = whycam.explain(model, inputs, target=Region(2, mask=own), layer="body")
    assert each.scores.tolist() == pytest.approx(by_loops(scores[:, 2], torch.stack([share, share.flip(0)]), "mean"))


def test_a_box_counts_the_share_of_each_cell(case):
    model, inputs, scores = case
    share = torch.zeros(H // 2, W // 2, dtype=torch.float64)
    for row in range(H // 2):
        for column in range(W // 2):
            down = max(0.0, min(7, 2 * row + 2) - max(1, 2 * row))
            across = max(0.0, min(5, 2 * column + 2) - max(2, 2 * column))
            share[row, column] = down * across / 4
    found = whycam.explain(model, inputs, target=Region(0, box=(2, 1, 5, 7), reduce="sum"), layer="body")
    assert found.scores.tolist() == pytest.approx(by_loops(scores[:, 0], share.expand(2, -1, -1), "sum"), rel=1e-6)


def test_the_component_at_a_point_by_a_walk():
    """Two islands of one class: the one that holds the point is meant."""
    scores = torch.zeros(1, 2, 6, 6, dtype=torch.float64)
    for row, column in [(0, 0), (0, 1), (1, 1), (4, 4), (4, 5), (5, 5), (2, 2)]:
        scores[0, 1, row, column] = 1.0 + row

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1).double()

        def forward(self, inputs):
            return self.layer(inputs) * 0 + scores

    model, inputs = Fixed(), torch.rand(1, 3, 6, 6, dtype=torch.float64)
    found = next(iter(whycam.compare(model, inputs, targets=[Region(1, point=(5.5, 4.5))], layers=["layer"]).values()))
    assert float(found.scores) == pytest.approx((5 + 5 + 6) / 3)
    assert found.shown[0].mask.nonzero().tolist() == [[4, 4], [4, 5], [5, 5]]
    single = Region(1, "point", point=(5.5, 5.5))
    found = next(iter(whycam.compare(model, inputs, targets=[single], layers=["layer"]).values()))
    assert float(found.scores) == pytest.approx(6)
    missed = next(iter(whycam.compare(model, inputs, targets=[Region(1, point=(3, 3))], layers=["layer"]).values()))
    assert missed.status[0].kind == "nothing to explain"
    assert "at that point" in missed.status[0].message


def test_the_region_stays_where_it_was(case):
    """Occlusion asks about the same pixels, also where the edited input predicts something else there."""
    model, inputs, scores = case
    seen = whycam.explain(model, inputs[:1], "occlusion", target=Region(1, "everywhere"), probability=False)
    assert seen.maps.shape[0] == 1
    of = int(scores[0].argmax(0).flatten().mode().values)
    (settled,) = Region(of).settle(model(inputs[:1]), OutputContext(model, inputs[:1]))
    other = model(inputs[1:])
    weights = (scores[:1].argmax(1) == of).double()
    expected = by_loops(other[:, of].detach(), weights, "mean")[0]
    assert settled.read(other).item() == pytest.approx(expected)
    assert not settled.read(other.detach()).requires_grad


@pytest.mark.parametrize("key", ["out", "logits"])
def test_outputs_under_a_name(case, key):
    plain, inputs, _ = case
    named = nets.fixed(Segmenter(key=key)).double()
    one, other = (whycam.explain(m, inputs, target=Region(1, "everywhere"), layer="body") for m in (plain, named))
    torch.testing.assert_close(one.maps, other.maps)
    assert f"the output's {key!r} as class scores for each place" in other.notes[0]


def test_one_channel_has_two_sides():
    model = nets.fixed(Segmenter(1)).double()
    inputs = torch.rand(1, 3, H, W, dtype=torch.float64)
    scores = model(inputs)[0, 0].detach()
    for of, side in ((1, scores), (0, -scores)):
        found = whycam.explain(model, inputs, target=Region(of, "everywhere"), layer="body")
        assert float(found.scores) == pytest.approx(float(side.mean()), rel=1e-6)


def test_probabilities_and_queries_are_explained_by_their_logarithms():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    soft = dense({"out": logits.softmax(1)})
    torch.testing.assert_close(soft.scores, logits.log_softmax(1))
    assert "holds probabilities" in soft.about
    classes, masks = torch.randn(1, 4, 3, dtype=torch.float64), torch.randn(1, 4, 2, 2, dtype=torch.float64)
    found = dense(SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)).scores
    for c in range(2):
        for at in [(0, 0), (1, 0)]:
            total = 0.0
            for q in range(4):
                weights = [math.exp(float(v)) for v in classes[0, q]]
                total += weights[c] / sum(weights) / (1 + math.exp(-float(masks[0, q, at[0], at[1]])))
            assert float(found[0, c, at[0], at[1]]) == pytest.approx(math.log(total), rel=1e-9)
    with pytest.raises(whycam.OutputError, match=r"no scores with axes of space.*shape \(1, 3\)"):
        dense(torch.rand(1, 3))


def test_what_the_values_are_is_settled_once():
    """An edited input whose scores happen to lie within [0, 1] is still read as scores, and as a probability."""
    scores = dense(torch.tensor([[[[-1.0, 2.0]]]]))
    later = torch.tensor([[[[0.25, 0.75]]]])
    assert torch.equal(scores.again(later), later)
    probability = dense(later)
    torch.testing.assert_close(probability.again(later), later.logit())
    two = torch.tensor([[[[0.25, 0.5]], [[0.75, 0.5]]]])
    torch.testing.assert_close(dense(two).again(two / 2), (two / 2).log())


def test_a_keypoint_is_the_peak_of_its_heat_map(case):
    model, inputs, scores = case
    found = whycam.explain(model, inputs, target=Keypoint(2), layer="body")
    for i in range(2):
        peak = max((float(scores[i, 2, r, c]), r, c) for r in range(H // 2) for c in range(W // 2))
        assert float(found.scores[i]) == pytest.approx(peak[0], rel=1e-6)
        assert found.shown[i].point == (peak[2] * 2 + 1.0, peak[1] * 2 + 1.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda: Region(1, mask=torch.ones(2, 2), point=(1, 1)), "one of mask, box and point"),
     (lambda: Region(1, "component"), "takes point="),
     (lambda: Region(1, point=(3,)), r"point= is 2 numbers, not \(3,\)"),
     (lambda: Region(1, "predicted", box=(0, 0, 1, 1)), "takes no mask")],
)  # fmt: skip
def test_regions_that_cannot_be(make, said):
    with pytest.raises(whycam.TargetError, match=said):
        make()


def test_what_does_not_fit_the_output(case):
    model, inputs, _ = case
    with pytest.raises(whycam.TargetError, match="class 7 is out of range; this model has 3 classes"):
        whycam.explain(model, inputs, target=Region(7), layer="body")
    with pytest.raises(whycam.TargetError, match=r"the point \(99, 1\) lies outside of the input, 16 x 12 pixels"):
        whycam.explain(model, inputs, target=Region(1, point=(99, 1)), layer="body")
    with pytest.raises(whycam.OutputError, match="do not mix"):
        whycam.compare(model, inputs, targets=[Region(1), 1], layers=["body"])


def test_the_sum_over_many_pixels_holds_in_half_precision():
    model = nets.fixed(Segmenter(stride=1)).half()
    inputs = torch.rand(1, 3, 300, 300).half()
    found = whycam.explain(model, inputs, target=Region(1, "everywhere"), layer="body")
    scores = model(inputs).detach().double()[0, 1]
    assert float(found.scores) == pytest.approx(float(scores.mean()), rel=1e-2)
    assert found.status[0].kind != "zero gradient"


def test_a_place_is_not_looked_for_in_mirrored_pictures(case):
    model, inputs, scores = case
    target = Region(1, box=(0, 0, 4, 4))
    found = whycam.explain(model, inputs, "hires_cam", target=target, layer="body", smoothing="augmentations")
    weights = torch.zeros(2, *scores.shape[2:], dtype=torch.float64)
    weights[:, :2, :2] = 1
    parts = [  # without a bias the scores scale with the input
        torch.einsum("k,nkhw->nhw", model.head.weight[1, :, 0, 0].detach(), model.body(inputs * s).detach())
        for s in (0.9, 1.0, 1.1)
    ]
    expected = torch.stack(parts).mean(0) * weights / 4
    assert torch.allclose(found.maps.double(), expected, atol=1e-6)
    assert any("mirrored, times 1;" in note and "left out" in note for note in found.notes)
    assert any("3 augmentations" in note for note in found.notes)


@pytest.mark.parametrize("method", ["sess", "cameras"])
def test_methods_that_move_the_picture_refuse_a_place(case, method):
    model, inputs, _ = case
    with pytest.raises(whycam.WhycamError, match="would lie elsewhere; use another method"):
        whycam.explain(model, inputs, method, target=Region(1, point=(3, 3), where="point"), layer="body")


def test_each_photo_of_another_size_has_its_own_place():
    model = nets.fixed(Segmenter())
    photos = [torch.randint(0, 255, size, dtype=torch.uint8).numpy() for size in ((24, 32, 3), (48, 64, 3))]
    how = {"preprocess": whycam.Preprocess((H, W), "stretch"), "layer": "body"}
    one = Region(1, point=(20, 10), where="point")
    assert [each.point for each in whycam.explain(model, photos, target=one, **how).shown] == [(10, 5), (5, 2.5)]
    other = Region(1, point=(60, 40), where="point")  # which the first photo has not
    found = whycam.explain(model, photos, target=[one, other], **how)
    assert [each.point for each in found.shown] == [(10, 5), (15, 10)]
    assert [each.mask.nonzero().tolist() for each in found.shown] == [[[2, 5]], [[5, 7]]]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Region(1, mask=torch.ones(3, H, W)), r"shape \(3, 12, 16\); 2 axes of space were expected.*its 2 samples"),
        (Region(1, mask=torch.full((H, W), 255)), "other values than 0 to 1"),
    ],
)
def test_masks_that_cannot_be(case, target, said):
    model, inputs, _ = case
    with pytest.raises(whycam.TargetError, match=said):
        whycam.explain(model, inputs, target=target, layer="body")


def test_a_keypoint_of_a_volume():
    model = nets.fixed(nn.Sequential(nn.Conv3d(1, 2, 3, 2, 1), nn.ReLU(), nn.Conv3d(2, 2, 1)))
    volume = torch.rand(1, 1, 8, 6, 10, dtype=torch.float64)
    found = whycam.explain(model, volume, target=Keypoint(1), layer="1")
    heat = model(volume).detach()[0, 1]
    value, z, y, x = max((float(heat[z, y, x]), z, y, x) for z in range(4) for y in range(3) for x in range(5))
    assert float(found.scores) == pytest.approx(value, rel=1e-5)
    assert found.target == (f"keypoint 1 at ({2 * x + 1}, {2 * y + 1}, {2 * z + 1})",)
