"""Inputs as they come: tensors in tuples and dicts, with whatever else a forward takes."""

import nets
import numpy as np
import pytest
import torch
from torch import nn

import whycam
from whycam import WhycamError


class Everything(nets.Plain):
    """Takes a picture among texts, flags, numbers, masks and nothing at all."""

    def forward(self, name, picture, mask=None, scale=1.0, flag=False, ids=None, more=None):
        assert isinstance(name, str)
        assert ids is None or ids.dtype == torch.int64
        assert mask is None or mask.dtype == torch.bool
        features = self.features(picture if mask is None else picture * mask)
        if more is not None:
            features = features + more["bias"][0][:, :, None, None]
        return self.head(nets.spatial_mean(features)) * (scale if flag else 1.0)


def everything():
    mask = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    mask[:, :, :5] = True
    bias = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(3, 8)
    return {
        "name": "text",
        "picture": nets.images(),
        "mask": mask,
        "scale": 3.0,
        "flag": True,
        "ids": torch.tensor([[1, 2], [3, 4], [5, 6]]),
        "more": {"bias": [bias], "nothing": None},
    }


def test_a_forward_gets_what_it_takes_by_position_or_by_name():
    model, given = nets.fixed(Everything()), everything()
    activations = model.features(given["picture"] * given["mask"])
    logits = 3.0 * model.head(nets.spatial_mean(activations + given["more"]["bias"][0][:, :, None, None]))
    (gradients,) = torch.autograd.grad(logits[:, 2].sum(), activations)
    expected = (activations * gradients).sum(1).detach().float()
    for inputs in (given, tuple(given.values())):
        found = whycam.explain(model, inputs, "hires_cam", layer="relu2", target=2)
        torch.testing.assert_close(found.maps, expected)
        torch.testing.assert_close(found.scores, logits[:, 2].detach())
        assert found.context.inputs is given["picture"]
    alone = whycam.explain(model, {**given, "mask": None, "more": None}, "hires_cam", layer="relu2", target=2)
    assert not torch.allclose(alone.maps, expected)


def test_the_layer_is_chosen_whatever_else_comes_with_the_picture():
    model, given = nets.fixed(Everything()), everything()
    found = whycam.explain(model, given, target=2)
    assert found.layer.name == "conv2"
    assert found.layer.stride == (2.0, 2.0)
    assert torch.equal(found.maps, whycam.explain(model, given, layer="conv2", target=2).maps)


def test_inputs_are_left_as_they_are():
    model, given = nets.fixed(Everything()), everything()
    before = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    whycam.explain(model, given, "guided_backprop", target=2)
    for name, value in before.items():
        assert torch.equal(given[name], value) if isinstance(value, torch.Tensor) else given[name] is value


def test_one_dict_as_the_one_argument_goes_into_a_tuple():
    class Detector(nets.Plain):
        def forward(self, batched):
            return super().forward(batched["image"])

    model, inputs = nets.fixed(Detector()), nets.images()
    found = whycam.explain(model, ({"image": inputs},), layer="conv2", target=1)
    assert torch.equal(found.maps, whycam.explain(nets.plain(), inputs, layer="conv2", target=1).maps)
    with pytest.raises(WhycamError, match="called with the arguments image"):
        whycam.explain(model, {"image": inputs}, layer="conv2")


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"path": "photo.jpg"}, r"no tensor is among these: path \(str\)"),
        ({}, "no tensor is among these: it is empty"),
        ({1: nets.images()}, r"its keys are texts, not 1.*pass \(dict,\)"),
        ({"picture": nets.images()[0]}, r"\.picture has shape \(3, 8, 8\).*image\[None\]"),
        ((torch.ones(3), nets.images()[0]), r"\[1\] has shape \(3, 8, 8\)"),
        ((nets.images()[:0], torch.ones(0, 2)), r"the batch is empty: shape \(0, 3, 8, 8\)"),
        ([nets.images(), nets.images()], "or pass a tuple of batches"),
    ],
)
def test_wrong_inputs_get_a_sentence(inputs, sentence):
    with pytest.raises(WhycamError, match=sentence):
        whycam.explain(nets.fixed(nets.TwoInputs()), inputs)


def test_the_picture_is_the_input_with_most_axes():
    class Conditioned(nets.Plain):
        def forward(self, embedding, picture):
            return super().forward(picture) * embedding.mean((1, 2))[:, None]

    embedding, picture = torch.ones(3, 7, 4, dtype=torch.float64), nets.images()
    found = whycam.explain(nets.fixed(Conditioned()), (embedding, picture), target=1)
    assert found.context.inputs is picture
    torch.testing.assert_close(found.maps, whycam.explain(nets.plain(), picture, target=1).maps)


def test_a_model_without_weights_is_refused_with_what_to_do():
    with torch.device("meta"):
        model = nets.Plain()
    for inputs in (nets.images(), (nets.images(),), {"x": nets.images()}):
        with pytest.raises(WhycamError, match=r"on the meta device.*to_empty"):
            whycam.explain(model, inputs)
    with pytest.raises(WhycamError, match="on the meta device"):
        whycam.explain(model, np.zeros((8, 8, 3), np.uint8), preprocess=whycam.Preprocess((8, 8)))


def test_a_model_of_which_a_part_waits_elsewhere_takes_its_inputs_where_the_rest_is():
    model, inputs = nets.plain(), nets.images()
    model._modules = {"offloaded": nn.Linear(3, 3, device="meta"), **model._modules}
    assert torch.equal(
        whycam.explain(model, inputs, layer="conv2").maps, whycam.explain(nets.plain(), inputs, layer="conv2").maps
    )
