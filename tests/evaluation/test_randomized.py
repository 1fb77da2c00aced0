"""Copies of networks that are randomized, layer by layer, and networks that take a constant off their picture."""

import warnings
from itertools import pairwise

import nets
import pytest
import torch
from small_vit import pictures, small_vit
from torch import Tensor, nn

from whycam.errors import WhycamError
from whycam.evaluation.randomized import Stage, randomized, shifted


def stages_of(model: nn.Module, inputs: Tensor | None = None, stages: int = 99, seed: int = 0) -> list[Stage]:
    return list(randomized(model, nets.images() if inputs is None else inputs, stages, seed))


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Layers some of whose own parameters or buffers are others."""
    theirs = after.state_dict()
    return {
        name.rpartition(".")[0] for name, value in before.state_dict().items() if not torch.equal(value, theirs[name])
    }


@pytest.fixture
def normalized() -> nn.Module:
    """Convolution, batch normalization with statistics of some training, convolution, linear."""
    model = nets.fixed(nets.Training(act=False))
    model.bn.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    model.bn.running_var.uniform_(1, 2, generator=torch.Generator().manual_seed(2))
    return model


def test_from_the_top_down_each_over_the_last(normalized):
    found = stages_of(normalized)
    assert [each.layer for each in found] == ["head", "conv2", "bn", "conv1"]
    assert [changed(normalized, each.module) for each in found] == [
        {"head"},
        {"head", "conv2"},
        {"head", "conv2", "bn"},
        {"head", "conv2", "bn", "conv1"},
    ]
    for earlier, later in pairwise(found):
        assert torch.equal(earlier.module.head.weight, later.module.head.weight)
    assert torch.equal(found[1].module.conv2.bias, found[3].module.conv2.bias)


def test_by_the_layers_own_initializers(normalized):
    """xplique draws all, running statistics too, between 0 and 1."""
    (last,) = stages_of(normalized, stages=1)
    assert last.layer == "conv1"
    assert last.drawn == ()
    bn = last.module.bn
    assert [each.unique().tolist() for each in (bn.weight, bn.bias, bn.running_mean, bn.running_var)] == [
        [1], [0], [0], [1]
    ]  # fmt: skip
    for layer in (last.module.conv1, last.module.conv2, last.module.head):
        bound = layer.weight[0].numel() ** -0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.min() < -bound / 2 < bound / 2 < layer.weight.max()
        assert layer.bias.abs().max() <= bound
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Embedding(3, 500))
    model[1].forward = lambda x: x
    model[1].weight.data.fill_(7.0)
    embedded = stages_of(model, nets.images().float(), 1)[0].module[1].weight
    assert abs(embedded.std() - 1) < 0.1  # an embedding's own: a normal distribution


def test_running_statistics_alone_are_a_layer_too():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)).eval()
    model[1].running_var.fill_(4.0)
    found = stages_of(model, nets.images().float())
    assert [each.layer for each in found] == ["1", "0"]
    assert found[0].module[1].running_var.tolist() == [1, 1, 1]


def test_layers_alike_are_drawn_apart():
    """Quantus draws every layer from the same seed, so two of one shape are the same layer."""
    model = nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)])
    made = stages_of(model, nets.images().float(), 1)[0].module
    assert not torch.equal(made[0].weight, made[1].weight)
    assert not torch.equal(made[1].weight, made[2].weight)


def test_the_users_network_and_torchs_random_numbers_stay_as_they_were(normalized):
    normalized.head.weight.requires_grad_(False)
    normalized.head.register_forward_hook(lambda *_: None)
    torch.manual_seed(3)
    before, copied = nets.state(normalized), nets.twin(normalized)
    found = stages_of(normalized)
    assert nets.differences(before, nets.state(normalized)) == []
    assert changed(normalized, copied) == set()
    theirs = {each.data_ptr() for each in normalized.state_dict().values() if each.numel()}
    for each in found:
        mine = {held.data_ptr() for held in each.module.state_dict().values() if held.numel()}
        assert not mine & theirs
    last = found[-1].module
    assert not last.head.weight.requires_grad
    assert last.conv1.weight.requires_grad
    assert not last.training
    assert [*dict(last.named_modules())] == [*dict(normalized.named_modules())]


def test_follows_the_seed_alone(normalized):
    torch.manual_seed(1)
    first = stages_of(normalized, seed=5)[-1].module
    torch.manual_seed(2)
    assert changed(first, stages_of(normalized, seed=5)[-1].module) == set()
    assert changed(first, stages_of(normalized, seed=6)[-1].module) == {"conv1", "conv2", "head"}
    # however many stages there are
    assert changed(first, stages_of(normalized, stages=2, seed=5)[-1].module) == set()


def test_few_stages_are_spread_from_the_top_layer_to_all():
    model = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(10)])
    inputs = nets.images().float()
    assert [each.layer for each in stages_of(model, inputs, 4)] == ["9", "6", "3", "0"]
    assert [each.layer for each in stages_of(model, inputs, 2)] == ["9", "0"]
    assert [each.layer for each in stages_of(model, inputs, 1)] == ["0"]
    assert [each.layer for each in stages_of(model, inputs, 10)] == [str(number) for number in range(9, -1, -1)]
    assert len([*randomized(model, inputs)]) == 8


class Backwards(nn.Module):
    """Made in another order than it runs, one layer runs twice, and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.again, self.first, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.again(self.first(self.again(x)))).mean((2, 3)))


def test_what_is_above_is_what_runs_later():
    found = stages_of(Backwards(), nets.images().float())
    assert [each.layer for each in found] == ["head", "last", "again", "first", "unused"]


def test_a_transformers_own_parameters_come_with_what_holds_them():
    model = small_vit(pool="attention")
    model.before.data.normal_(3, 0.5, generator=torch.Generator().manual_seed(0))
    found = stages_of(model, pictures(model))
    names = [each.layer for each in found]
    assert names[:3] == ["head", "asks.out_proj", "asks"]
    assert names[-3:] == ["patches", "norm", ""]  # the norm is not read here, so it never runs
    assert names.index("blocks.1.up") < names.index("blocks.1.norm2") < names.index("blocks.0.down")
    assert changed(model, found[0].module) == {"head"}
    # a projection that torch calls by its weights alone, and whose parent's initializer sets its bias too
    assert changed(model, found[1].module) == {"head", "asks.out_proj"}
    assert "before" in found[-1].drawn
    assert not any(each.drawn for each in found[:-1])
    drawn = found[-1].module.before
    assert not torch.equal(drawn, model.before)
    assert abs(drawn.mean() - model.before.mean()) < model.before.std()
    assert found[-1].module(pictures(model)).isfinite().all()


class Own(nn.Module):
    """A layer with an initializer that asks for an argument, and a number that any initializer leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.count = nn.Parameter(torch.randn(2000) * 3 + 5), nn.Parameter(torch.ones(2).long(), False)
        self.kept = torch.zeros(2)

    def reset_parameters(self, scale: float) -> None:
        raise AssertionError

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.mean()


def test_parameters_without_an_initializer_keep_their_mean_and_deviation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Own())
    found = stages_of(model, nets.images().float())
    assert [each.drawn for each in found] == [("1.weight",), ("1.weight",)]
    made = found[0].module[1]
    assert not torch.equal(made.weight, model[1].weight)
    assert abs(made.weight.mean() - 5) < 0.5
    assert abs(made.weight.std() - 3) < 0.3
    assert made.count.tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["parametrization", "weight_norm", "lstm", "tied"])
def test_weights_that_are_kept_in_other_ways(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(2), nn.Linear(64, 64), nn.Linear(64, 64))
    if kind == "parametrization":
        nn.utils.parametrizations.weight_norm(model[2])
    elif kind == "weight_norm":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.utils.weight_norm(model[2])
    elif kind == "lstm":
        model[2] = nn.LSTM(64, 3, batch_first=True)
    else:
        model[1].weight = model[2].weight
    inputs = nets.images().float()

    def answer(network: nn.Module) -> Tensor:
        made = network(inputs)
        return made[0] if isinstance(made, tuple) else made

    before, expected = nets.state(model), answer(model)
    found = stages_of(model, inputs)
    assert torch.equal(answer(model), expected)
    assert nets.differences(before, nets.state(model)) == []
    assert not torch.allclose(answer(found[-1].module), expected, atol=1e-3)
    assert found[-1].module is not model


def test_a_network_without_parameters_is_refused():
    with pytest.raises(WhycamError, match="no layer of this ReLU has parameters"):
        stages_of(nn.ReLU())


# A constant that is taken off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [1.0, -2.5])
def test_a_shifted_network_answers_to_the_shifted_picture_as_the_network_to_the_picture(normalized, constant):
    before, pictures_ = nets.state(normalized), nets.images()
    other = shifted(normalized, constant)
    torch.testing.assert_close(other(pictures_ + constant), normalized(pictures_))
    assert not torch.allclose(other(pictures_), normalized(pictures_))
    assert nets.differences(before, nets.state(normalized)) == []
    assert [*dict(other.named_modules())] == [*dict(normalized.named_modules())]
    assert other.head.weight is normalized.head.weight


def test_only_the_picture_is_shifted():
    model, numbers, picture = nets.fixed(nets.TwoInputs()), torch.randn(3, 2).double(), nets.images()
    other, expected = shifted(model, 1.0), model(numbers, picture)
    torch.testing.assert_close(other(numbers, picture + 1), expected)
    torch.testing.assert_close(other(picture=picture + 1, numbers=numbers), expected)


class Towers(nn.Module):
    """What transformers' CLIP looks like: a picture alone goes to its tower."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_model, self.text_model = nets.plain(), nn.Linear(2, 5)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return self.vision_model(pixel_values)

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        return self.text_model(input_ids)


def test_a_picture_that_goes_to_its_tower_is_shifted_there():
    model, picture = Towers(), nets.images()
    torch.testing.assert_close(shifted(model, 1.0).get_image_features(picture + 1), model.get_image_features(picture))
