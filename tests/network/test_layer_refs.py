"""Names of places in a network."""

from collections import OrderedDict

import nets
import pytest
import torch
from torch import nn

from whycam.errors import WhycamError
from whycam.network.layer_refs import LayerRef, find_layers


def model():
    block = lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())  # noqa: E731
    made = nn.Sequential()
    for number in range(1, 4):
        made.add_module(f"layer{number}", nn.Sequential(block(), block()))
    made.add_module("pool", nn.AdaptiveAvgPool2d(1))
    return made


@pytest.mark.parametrize(
    ("spec", "taps"),
    [
        ("layer2", [LayerRef("layer2")]),
        ("layer2.0.1", [LayerRef("layer2.0.1")]),
        ("layer2#0", [LayerRef("layer2", 0)]),
        ("layer2#-1", [LayerRef("layer2", -1)]),
        ("layer2#*", [LayerRef("layer2", "all")]),
        ("layer2:input", [LayerRef("layer2", "last", "input")]),
        ("layer2:output", [LayerRef("layer2")]),
        ("layer2#1:input", [LayerRef("layer2", 1, "input")]),
        ("layer*", [LayerRef("layer1"), LayerRef("layer2"), LayerRef("layer3")]),
        ("layer?", [LayerRef("layer1"), LayerRef("layer2"), LayerRef("layer3")]),
        ("layer[13]", [LayerRef("layer1"), LayerRef("layer3")]),
        ("layer[!1]", [LayerRef("layer2"), LayerRef("layer3")]),
        ("layer3.*", [LayerRef("layer3.0"), LayerRef("layer3.1")]),
        ("*.1.2", [LayerRef("layer1.1.2"), LayerRef("layer2.1.2"), LayerRef("layer3.1.2")]),
        ("layer[12]:input", [LayerRef("layer1", "last", "input"), LayerRef("layer2", "last", "input")]),
    ],
)
def test_names_and_globs(spec, taps):
    assert find_layers(model(), spec) == taps


def test_labels_are_read_back_as_written():
    for label in ("layer2", "layer2#0", "layer2#-1", "layer2#*", "layer2:input", "layer2#1:input"):
        (tap,) = find_layers(model(), label)
        assert str(tap) == label


def test_a_module_is_found_by_itself():
    network = model()
    assert find_layers(network, network.layer2[1][0]) == [LayerRef("layer2.1.0")]


def test_a_module_of_another_model_and_the_model_itself_are_refused():
    network = model()
    with pytest.raises(WhycamError, match="a Conv2d, is not part of this Sequential"):
        find_layers(network, nn.Conv2d(3, 3, 1))
    for whole in (network, ""):
        with pytest.raises(WhycamError):
            find_layers(network, whole)


def test_a_module_with_two_names_has_both():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    network.add_module("again", network[1])
    assert find_layers(network, "1") == [LayerRef("1")]
    assert find_layers(network, "again") == [LayerRef("again")]


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("layer4", "layer"), ("leyer2", "layer2"), ("layer2.0.bn", "layer2.0"), ("poool", "pool")],
)
def test_a_near_miss_is_suggested(spec, hint):
    with pytest.raises(WhycamError, match=rf"no layer '{spec}'; this model has layer1, .*Did you mean '{hint}"):
        find_layers(model(), spec)


@pytest.mark.parametrize("spec", ["xyz*", "layer1.*.*.*", "qqqqqq", "#0", ":input"])
def test_an_unknown_name_or_a_glob_that_fits_nothing_is_refused(spec):
    with pytest.raises(WhycamError, match=r"no layer .*\(and \d+ inside them\)"):
        find_layers(model(), spec)


@pytest.mark.parametrize("spec", [3, None, 1.5, b"layer1"])
def test_what_is_no_name_is_refused(spec):
    with pytest.raises(WhycamError, match=f"a layer is a dotted name.*not {type(spec).__name__}"):
        find_layers(model(), spec)


def test_the_part_of_a_compiled_model_is_found():
    import torch

    network = nets.plain()
    network.conv2 = torch.compile(network.conv2, backend="eager")
    assert find_layers(network, network.conv2) == [LayerRef("conv2")]
    assert find_layers(network, network.conv2._orig_mod) == [LayerRef("conv2")]


def test_a_name_may_hold_or_lack_what_wrappers_put_into_it():
    plain = nets.plain()
    inside = nn.Sequential(OrderedDict(backbone=nn.DataParallel(plain), tail=torch.compile(nn.ReLU(), backend="eager")))
    for name, tap in {
        "module.conv2": LayerRef("conv2"),
        "_orig_mod.conv2#0": LayerRef("conv2", 0),
        "module._orig_mod.conv2:input": LayerRef("conv2", side="input"),
        "module.conv*": LayerRef("conv1"),
    }.items():
        assert find_layers(plain, name)[0] == tap
    assert find_layers(inside, "backbone.conv2") == [LayerRef("backbone.module.conv2")]
    assert find_layers(inside, "backbone.conv*") == [LayerRef(f"backbone.module.conv{n}") for n in (1, 2)]
    assert find_layers(inside, "backbone.module.conv2") == [LayerRef("backbone.module.conv2")]
    assert find_layers(inside, "module.tail") == [LayerRef("tail")]
    assert find_layers(inside, "module.backbone") == [LayerRef("backbone")]
    with pytest.raises(WhycamError, match=r"no layer 'module\.conv3'"):
        find_layers(plain, "module.conv3")
    with pytest.raises(WhycamError, match="no layer 'module'"):
        find_layers(plain, "module")
