"""Detectors that detach what they choose queries by: said, and followed where asked; beside a patch of `detach`."""

import threading

import detectors
import pytest
import torch
from nets import differences, state
from torch import nn

import whycam
from whycam.network.recording.detaching import Detaching
from whycam.targets import Box, Boxes

PROJECTIONS = {
    "RT-DETR": "model.decoder_input_proj",
    "two-stage Deformable DETR": "model.input_proj",
    "Deformable DETR": "model.input_proj",
}


def summed(gradients):
    return gradients.sum(1)


def by_hand(model, inputs, layer, patch):
    """The gradient of the best box's logit at a layer, with what the model detaches left in its graph or not."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, given, output: kept.append(output))
    patch.setattr(torch.Tensor, "detach", lambda tensor: tensor)
    output = model(inputs)
    handle.remove()
    best = output.logits[0].flatten().sort(descending=True, stable=True).indices[0]
    (gradient,) = torch.autograd.grad(output.logits[0].flatten()[best], kept[0])
    patch.undo()
    return gradient.sum(1)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_followed_it_is_the_gradient_of_the_network_without_its_detach(name, monkeypatch):
    model, inputs = detectors.made(detectors.TRANSFORMERS[name])
    model, inputs = model.double(), inputs.double()
    for parameter in model.parameters():  # boxes that every layer refines
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    before = state(model)
    differs = False
    for layer in (f"{PROJECTIONS[name]}.{scale}" for scale in range(3)):
        expected = by_hand(model, inputs, layer, monkeypatch).float()
        plain = whycam.explain(model, inputs, summed, target=Box(0), layer=layer)
        found = whycam.explain(model, inputs, summed, target=Box(0, through_selection=True), layer=layer)
        scale = float(expected.abs().max())
        torch.testing.assert_close(found.maps, expected, rtol=1e-6, atol=2e-7 * scale)
        differs = differs or float((plain.maps - expected).abs().max()) > 8e-7 * scale  # these have few layers
    assert differs
    assert torch.equal(plain.scores, found.scores)
    assert any("through_selection=True follows it" in note for note in plain.notes)
    assert any("the gradient goes through" in note and "detaches" in note for note in found.notes)
    assert torch._C._len_torch_function_stack() == 0
    assert differences(before, state(model)) == []


def test_where_nothing_is_detached_that_is_said():
    model, inputs = detectors.made(detectors.detr)
    plain, found = (
        whycam.explain(model, inputs, summed, target=Box(0, through_selection=through)) for through in (False, True)
    )
    assert torch.equal(plain.maps, found.maps)
    assert any("since none is detached" in note for note in found.notes)
    assert not any("detach" in note for note in plain.notes)


def test_several_boxes_follow_alike():
    model, inputs = detectors.made(detectors.rt_detr)
    found = whycam.compare(model, inputs, ["layer_cam"], targets=[Boxes(min_score=0.0, through_selection=True)])
    alone = whycam.explain(model, inputs, "layer_cam", target=Box(1, through_selection=True))
    (one,) = [each for key, each in found.items() if key[2] == Box(1, through_selection=True)]
    torch.testing.assert_close(one.maps, alone.maps)
    with pytest.raises(whycam.TargetError, match="for all targets of one pass or for none"):
        whycam.compare(model, inputs, ["layer_cam"], targets=[Box(0), Box(1, through_selection=True)])


def test_what_other_threads_detach_stays_detached():
    inside, done, seen = threading.Event(), threading.Event(), []

    def other():
        inside.wait(10)
        seen.append(torch.ones(1, requires_grad=True).detach().requires_grad)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with Detaching(through=True) as mode:
        inside.set()
        done.wait(10)
        assert torch.ones(1, requires_grad=True).detach().requires_grad
    thread.join()
    assert seen == [False]
    assert mode.count == 1


def test_it_ends_with_an_exception():
    model, inputs = detectors.made(detectors.rt_detr)

    def stop(*_):
        raise KeyError("stop")

    handle = model.class_embed.register_forward_hook(stop) if hasattr(model, "class_embed") else None
    handle = handle or model.model.decoder.register_forward_hook(stop)
    with pytest.raises(KeyError, match="stop"):
        whycam.explain(model, inputs, target=Box(0, through_selection=True))
    handle.remove()
    assert torch._C._len_torch_function_stack() == 0
