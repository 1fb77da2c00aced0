"""Boxes of fourteen families of detectors: the score is one raw logit, found by hand from the listed values."""

import math
from concurrent.futures import ThreadPoolExecutor

import detectors
import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.network.layers.pyramid import pyramid
from whycam.targets import Box, Boxes, BoxSide, Detections
from whycam.targets.outputs import detections
from whycam.targets.structured import OutputContext

EVERY = {**detectors.TORCHVISION, **detectors.TRANSFORMERS, **detectors.ULTRALYTICS}


def summed(gradients):
    """The gradient of the score at each location, its channels added up."""
    return gradients.sum(1)


def by_hand(model, inputs, layer, number):
    """A box's raw logit, its gradient at a layer, and how many raw rows it depends on; by plain autograd."""
    kept = {}

    def keep(name):
        def hook(module, given, output):
            kept[name] = output
            if name == "layer":
                output.retain_grad()

        return hook

    handles = [model.get_submodule(layer).register_forward_hook(keep("layer"))]
    listed = type(model).__module__.startswith("torchvision")
    if listed:
        head = model.roi_heads.box_predictor if hasattr(model, "roi_heads") else model.head
        handles.append(head.register_forward_hook(keep("head")))
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    output = model(inputs)
    for handle in handles:
        handle.remove()
    if type(model).__module__.startswith("ultralytics"):
        decoded, beside = output
        if model.model[-1].end2end:
            rows, raw = decoded[0], beside["one2one"]["scores"][0]
        else:
            from ultralytics.utils.nms import non_max_suppression

            rows, raw = non_max_suppression(decoded.detach(), 1e-3, 0.7)[0], beside["scores"][0]
        score, label = rows[number, 4], int(rows[number, 5])
        logit = raw[label, int((raw[label].sigmoid() - score).abs().argmin())]
    elif listed:
        score, label = output[0]["scores"][number], int(output[0]["labels"][number])
        head = kept["head"]
        raw = head[0] if isinstance(head, tuple) else head["cls_logits"][0]
        if isinstance(head, tuple) or "ssd" in type(model).__name__.lower():
            values = raw.softmax(-1)
        elif "bbox_ctrness" in head:
            values = (raw.sigmoid() * head["bbox_ctrness"][0].sigmoid()).sqrt()
        else:
            values = raw.sigmoid()
        row = int((values[:, label] - score).abs().argmin())
        assert torch.allclose(values[row, label], score, rtol=1e-6)
        logit = raw[row, label]
    else:
        none = output.logits.shape[-1] == model.config.num_labels + 1
        scores = output.logits[0].softmax(-1)[:, :-1] if none else output.logits[0].sigmoid()
        best, labels = scores.max(-1)
        query = int(best.sort(descending=True, stable=True).indices[number])
        logit = output.logits[0, query, labels[query]]
    (gradient,) = torch.autograd.grad(logit, kept["layer"], allow_unused=True)
    return logit.detach(), None if gradient is None else gradient


@pytest.fixture(scope="module", params=list(EVERY))
def detector(request):
    model, inputs = detectors.made(EVERY[request.param])
    if request.param in detectors.ULTRALYTICS:  # where many anchors have nearly the same score
        model, inputs = model.double(), inputs.double()
    return request.param, model, inputs


def test_the_score_is_the_raw_logit_and_so_is_its_gradient(detector):
    name, model, inputs = detector
    layers = pyramid(model) or ["vit.encoder.layer.1.layernorm_before"]
    for number in (0, 2):
        if name == "YOLOS":
            logit, gradient = by_hand(model, inputs, layers[0], number)
            found = whycam.explain(model, inputs, summed, target=Box(number), layer=layers[0])
            torch.testing.assert_close(found.scores[0], logit, rtol=1e-5, atol=1e-6)
            patches = gradient.sum(2)[:, 1:25].reshape(1, 4, 6)  # behind a class token, before those of detections
            torch.testing.assert_close(found.maps, patches, rtol=1e-5, atol=1e-5 * float(patches.abs().max()))
            continue
        seen = 0
        for layer in layers:
            logit, gradient = by_hand(model, inputs, layer, number)
            if gradient is None or not gradient.any() or gradient[0, 0].numel() == 1:
                continue
            gradient = gradient.sum(1)
            found = whycam.explain(model, inputs, summed, target=Box(number), layer=layer)
            torch.testing.assert_close(found.scores[0], logit.to(found.scores), rtol=1e-5, atol=1e-6)
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found.maps, gradient.to(found.maps), rtol=1e-5, atol=1e-5 * scale)
            seen += 1
        assert seen


def test_it_is_explained_at_all_scales_and_the_network_is_left_as_found(detector):
    name, model, inputs = detector
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = whycam.explain(model, inputs, "layer_cam", target=Box(0))
    assert name == "YOLOS" or found.layer.why.startswith(("all", "the features that the detector reads"))
    assert found.status[0].kind in ("ok", "no positive evidence", "signed activations")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert found.shown[0].box is not None


@pytest.mark.parametrize("name", ["RetinaNet", "RT-DETR"])
def test_after_inference_mode_frozen_and_in_threads(name):
    model, inputs = detectors.made(EVERY[name])
    plain = whycam.explain(model, inputs, "layer_cam", target=Box(1)).maps
    with torch.inference_mode():
        model(inputs)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    explainer = whycam.Explainer(model)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: explainer.explain(inputs, "layer_cam", target=Box(1)).maps, range(6)))
    assert all(torch.allclose(each, plain, rtol=1e-5, atol=1e-7) for each in made)


def test_several_boxes_cost_one_forward_and_a_backward_each():
    model, inputs = detectors.made(detectors.retinanet)
    found = whycam.compare(model, inputs, ["layer_cam"], targets=[Boxes(min_score=0.0)])
    assert [key[2] for key in found] == [Box(0), Box(1), Box(2), Box(3), Box(4)]
    assert (found.cost.forwards, found.cost.backwards) == (1, 5)
    alone = whycam.explain(model, inputs, "layer_cam", target=Box(3))
    (one,) = [each for key, each in found.items() if key[2] == Box(3)]
    torch.testing.assert_close(one.maps, alone.maps)


def test_beside_a_box_those_are_drawn_that_are_at_least_half_as_sure():
    """A list of queries or anchors goes on to what is no object at all."""
    boxes = torch.tensor([[0.0, 0, 4, 4], [4, 4, 8, 8], [1, 1, 5, 5], [2, 2, 6, 6]])

    def listed(output):
        scores = output[0].sigmoid()
        return [Detections(boxes, scores, torch.zeros(4, dtype=torch.long), None, lambda i: output[0, i], "made")]

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    wanted = torch.tensor([0.8, 0.4001, 0.3999, 0.001]).logit()
    inputs = torch.rand(1, 3, 8, 8)
    network[0].bias.data += wanted - network(inputs)[0].detach()
    first, last = (whycam.explain(network, inputs, target=Box(k, adapter=listed), layer="0") for k in (0, 2))
    assert first.shown[0].others == (tuple(boxes[1].tolist()),)
    assert last.shown[0].others == tuple(tuple(boxes[k].tolist()) for k in (0, 1))


def test_comparing_boxes_takes_their_usual_method():
    model, inputs = detectors.made(detectors.retinanet)
    for targets in ([Boxes(min_score=0.0)], [Box(0), Box(1)], None):
        assert {key[0] for key in whycam.compare(model, inputs, targets=targets)} == {"layer_cam"}
    assert {key[0] for key in whycam.compare(nets.fixed(nets.Plain()), nets.images())} == {"grad_cam"}


def test_one_explanation_is_not_of_several_boxes():
    model, inputs = detectors.made(detectors.retinanet)
    with pytest.raises(whycam.WhycamError, match=r"stands for several things; use whycam.compare with targets=\[Boxes"):
        whycam.explain(model, inputs, target=Boxes())


def test_a_box_may_be_given_by_its_corners():
    model, inputs = detectors.made(detectors.retinanet)
    listed = model(inputs)[0]
    corners = [side + 0.4 for side in listed["boxes"][2].tolist()]
    found = whycam.explain(model, inputs, "layer_cam", target=Box(corners, int(listed["labels"][2])))
    (overlaps,) = [
        [k for k in range(5) if int(listed["labels"][k]) == int(listed["labels"][2])],
    ]
    best = max(overlaps, key=lambda k: _iou(corners, listed["boxes"][k].tolist()))
    assert found.shown[0].box == pytest.approx(listed["boxes"][best].tolist(), rel=1e-5)


def test_of_boxes_that_overlap_the_one_of_that_class_is_meant():
    def adapter(output):
        boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [4.0, 4.0, 24.0, 24.0]])
        scores, labels = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
        return [Detections(boxes, scores, labels, None, lambda index: output[0, index], "by hand")]

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    for label, corner in ((0, 0.0), (1, 4.0), (None, 0.0)):
        target = Box((0, 0, 20, 20), label, adapter)
        found = whycam.explain(model, torch.rand(1, 3, 32, 32), target=target, layer="0")
        assert found.shown[0].box[0] == corner
        assert "by hand" in found.notes


def _iou(one, other):
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def test_what_is_not_found_has_a_status_that_says_what_was():
    model, inputs = detectors.made(detectors.retinanet)
    for target in (Box(17), Boxes(min_score=0.99), Box((0, 0, 1, 1), 3)):
        found = next(iter(whycam.compare(model, inputs, ["layer_cam"], targets=[target]).values()))
        assert found.status[0].kind == "nothing to explain"
        assert "the best is class" in found.status[0].message
        assert not found.maps.any()


def test_of_images_with_unequal_numbers_of_boxes_each_has_its_own():
    model, inputs = detectors.made(detectors.retinanet)
    pair = torch.cat([inputs, 1 - inputs])
    scores = [each["scores"].detach() for each in model(pair)]
    counts = {float(least): [int((each >= least).sum()) for each in scores] for least in torch.cat(scores)}
    least, (first, second) = max(counts.items(), key=lambda item: abs(item[1][0] - item[1][1]))
    found = whycam.compare(model, pair, ["layer_cam"], targets=[Boxes(min_score=least)])
    assert len(found) == max(first, second) > min(first, second)
    (last,) = [each for key, each in found.items() if key[2] == Box(len(found) - 1)]
    assert [status.kind == "nothing to explain" for status in last.status] == [first < second, first > second]


def test_one_box_for_each_image():
    model, inputs = detectors.made(detectors.retinanet)
    pair = torch.cat([inputs, 1 - inputs])
    found = whycam.explain(model, pair, "layer_cam", target=[Box(0), Box(2)])
    for sample, number in enumerate((0, 2)):
        alone = whycam.explain(model, pair[sample : sample + 1], "layer_cam", target=Box(number))
        torch.testing.assert_close(found.maps[sample], alone.maps[0], rtol=1e-4, atol=1e-6)
        assert found.target[sample] == alone.target[0]
    with pytest.raises(whycam.TargetError, match="3 targets came for 2 samples"):
        whycam.explain(model, pair, target=[Box(0)] * 3)


def test_a_side_is_the_coordinate_itself():
    model, inputs = detectors.made(detectors.faster_rcnn)
    layer, kept = "backbone.fpn.layer_blocks.0", []
    found = whycam.explain(model, inputs, summed, target=BoxSide(0, "right"), layer=layer)
    handle = model.get_submodule(layer).register_forward_hook(lambda module, given, output: kept.append(output))
    (gradient,) = torch.autograd.grad(model(inputs)[0]["boxes"][0, 2], kept[-1])
    handle.remove()
    expected = gradient.sum(1)
    torch.testing.assert_close(found.maps, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert float(found.scores[0]) == pytest.approx(model(inputs)[0]["boxes"][0, 2].item(), rel=1e-5)
    assert found.target[0].startswith("right side of box 0")


def test_nothing_asked_is_the_first_box():
    model, inputs = detectors.made(detectors.retinanet)
    first = whycam.explain(model, inputs, "layer_cam", target=Box(0))
    assert torch.equal(whycam.explain(model, inputs, "layer_cam").maps, first.maps)


def test_methods_that_edit_the_input_search_the_box():
    """D-RISE's similarity by hand: the largest overlap times the probability of the class."""
    model, inputs = detectors.made(detectors.rt_detr)
    found = whycam.explain(model, inputs, "occlusion", target=Box(0))
    assert found.status[0].kind in ("ok", "no positive evidence")
    with torch.no_grad():
        (clean,) = detections(model(inputs), (64, 96), model)
    box, label = clean.boxes[0], int(clean.labels[0])
    hidden = inputs.clone()
    hidden[..., :16, :16] = 0
    with torch.no_grad():
        (other,) = detections(model(hidden), (64, 96), model)
    by_loops = max(
        _iou(box.tolist(), each.tolist()) * float(p)
        for each, p in zip(other.boxes, other.classes[:, label], strict=True)
    )
    (settled,) = Box(0).settle(model(inputs), OutputContext(model, inputs))
    assert settled.search(model(hidden)).item() == pytest.approx(by_loops, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda: Box(-1), "place of a box"), (lambda: Box((3, 0, 1, 2)), "corners"), (lambda: Boxes(2.0), "from 0 to 1"),
     (lambda: BoxSide(-1), "place of a box")],
)  # fmt: skip
def test_targets_that_cannot_be(make, said):
    with pytest.raises(whycam.TargetError, match=said):
        make()


def test_an_output_of_no_known_family_says_what_to_pass():
    model = nets.fixed(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    ).float()
    with pytest.raises(whycam.OutputError, match=r"no boxes can be read from this output, a Tensor.*Pass adapter="):
        whycam.explain(model, torch.rand(1, 3, 16, 16), target=Box(0))


@pytest.mark.parametrize("name", EVERY)
def test_later_outputs_are_read_in_the_units_of_the_recorded_one(name):
    model, inputs = detectors.made(EVERY[name])
    if name == "yolo26n":
        pytest.skip("its random weights give boxes without an area, which nothing overlaps")
    options = {"rise": {"samples": 1, "keep": 0.999, "grid": 1, "probability": False}}  # one mask that hides nothing
    found = whycam.compare(model, inputs, ["layer_cam", "rise"], targets=[Box(0)], options=options)
    gradients, masked = found.values()
    assert masked.method == "rise"
    assert float(masked.maps.max()) * 0.999 == pytest.approx(float(gradients.scores), abs=1e-3)


def test_a_box_that_is_gone_scores_less_than_one_that_is_faint():
    def adapter(output):
        score = output.amax((1, 2, 3)) / 2
        far = torch.stack([score * 0 + 0.99, score])[:, 0]
        boxes = torch.tensor([[40.0, 40, 60, 60], [0, 0, 20, 20]])
        kept = 2 if float(score.detach()) > 0 else 1
        return [Detections(boxes[:kept], far[:kept], torch.tensor([1, 1])[:kept], None, lambda i: far[i].logit(), "")]

    model = nn.Sequential(nn.ReLU())
    image = torch.full((1, 3, 8, 8), 0.1)
    (made,) = Box(1, adapter=adapter).settle(image, OutputContext(model, image))
    assert float(made.read(image)) == pytest.approx(math.log(0.05 / 0.95), rel=1e-5)
    assert float(made.read(image * 0)) < -15  # and not the other box, which overlaps it nowhere


def test_a_list_of_boxes_has_the_method_of_a_box():
    model, inputs = detectors.made(detectors.retinanet)
    found = whycam.explain(model, inputs.repeat(2, 1, 1, 1), target=[Box(0), Box(1)])
    assert found.method == "layer_cam"
    assert torch.allclose(found.maps[1], whycam.explain(model, inputs, target=Box(1)).maps[0], atol=1e-6)


def test_the_label_is_for_boxes_given_by_their_corners():
    with pytest.raises(whycam.TargetError, match=r"Box\(i\) takes none"):
        Box(0, "cat")


@pytest.mark.parametrize("name", ["DETR", "YOLOS"])
def test_queries_are_no_places(name):
    model, inputs = detectors.made(EVERY[name])
    with pytest.raises(whycam.OutputError, match=r"without the input's 2 axes of space.*take whycam\.targets\.Box"):
        whycam.explain(model, inputs, target=whycam.targets.Region(0))
