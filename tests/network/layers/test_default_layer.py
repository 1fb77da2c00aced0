"""Which layer is taken when nobody names one."""

from functools import partial

import nets
import pytest
import torch
import torchvision_shim
from torch import nn

import whycam
from whycam.kit.quantities import AGAIN
from whycam.kit.registry import methods
from whycam.network.layers.default_layer import choose, stages
from whycam.network.layers.features import features
from whycam.network.layouts import Tokens
from whycam.targets import resolve

torchvision_shim.register()
import torchvision.models as zoo  # noqa: E402

PICTURE = torch.zeros(1, 3, 64, 64)
# network, size, layer before the last activation (Grad-CAM), layer after it (every other method)
KNOWN = [
    ("resnet18", 64, "layer4", "layer4"),
    ("mobilenet_v2", 64, "features.18.1", "features"),
    ("vgg16", 64, "features.28", "features.29"),
    ("alexnet", 96, "features.10", "features.11"),
    ("densenet121", 64, "features", "features"),
    ("squeezenet1_1", 64, "classifier.1", "classifier.2"),
    ("efficientnet_b0", 64, "features.8.1", "features"),
]


@pytest.fixture(autouse=True)
def _quick():
    torch.manual_seed(0)


@pytest.mark.parametrize(("name", "side", "signed", "rectified"), KNOWN, ids=[each[0] for each in KNOWN])
def test_the_last_feature_of_well_known_networks(name, side, signed, rectified):
    with torch.device("meta"):
        model = getattr(zoo, name)(weights=None).eval()
    model = model.to_empty(device="cpu")
    inputs = torch.zeros(1, 3, side, side)
    choice, forwards, _ = choose(model, inputs, side="before")
    assert (str(choice.tap), forwards) == (signed, 1)
    assert ("before its activation" in choice.why) == (signed != rectified)
    choice, forwards, _ = choose(model, inputs, side="after")
    assert (str(choice.tap), forwards) == (rectified, 0)
    assert ("after its activation" in choice.why) == (signed != rectified)


def vit():
    import timm

    return timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=24, num_heads=2, num_classes=5
    ).eval()


def test_a_class_token_makes_it_step_back_and_say_so():
    model, inputs = vit(), torch.randn(2, 3, 64, 64)
    nn.init.normal_(model.head.weight)
    found = whycam.explain(model, inputs, "grad_cam")
    assert found.layer.name.startswith("blocks.1.")
    assert "the score depends on" in found.layer.why
    assert "'norm' the gradient is zero" in found.layer.why
    assert found.layer.grid == (4, 4)
    assert all(status.kind != "zero gradient" for status in found.status)
    again = whycam.explain(model, inputs, "grad_cam")
    assert again.layer == found.layer
    assert (again.cost.forwards, again.cost.backwards) == (1, 1)


def test_naming_the_layer_after_the_last_attention_says_why_it_is_empty():
    model, inputs = vit(), torch.randn(2, 3, 64, 64)
    nn.init.normal_(model.head.weight)
    found = whycam.explain(model, inputs, layer="blocks.1")
    assert not found.maps.any()
    assert {status.kind for status in found.status} == {"zero gradient"}
    assert "class token alone" in found.status[0].message


def test_what_stepping_back_costs_is_owned_up_to_and_paid_once():
    model, inputs = nets.fixed(nets.Tokens()), nets.images()
    forwards, backwards = [], []
    model.register_forward_hook(lambda *_: forwards.append(1))
    model.head.register_full_backward_hook(lambda *_: backwards.append(1))
    gradient_methods = [
        name for name, each in methods().items() if "gradients" in each.needs and not each.needs & AGAIN
    ]
    made = whycam.compare(model, inputs, gradient_methods, targets=[0, 1])
    assert (made.cost.forwards, made.cost.backwards) == (len(forwards), len(backwards))
    # looking, the first try, candidates for either kind of method, the pass itself
    assert len(forwards) <= 5
    forwards.clear(), backwards.clear()
    made = whycam.compare(model, inputs, gradient_methods, targets=[0, 1])
    assert (made.cost.forwards, made.cost.backwards) == (len(forwards), len(backwards)) == (1, 2)


def test_stepping_back_copes_with_a_target_for_this_very_batch():
    model, inputs = nets.fixed(nets.Tokens()), nets.images()
    found = whycam.explain(model, inputs, target=lambda output: output[torch.arange(3), torch.tensor([2, 0, 1])])
    expected = whycam.explain(nets.fixed(nets.Tokens()), inputs, target=[2, 0, 1])
    assert torch.equal(found.maps, expected.maps)


def test_a_dead_input_does_not_change_the_layer_for_the_next():
    class Skipping(nets.Plain):
        """The answer reads an earlier feature too."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(14, 5)

        def forward(self, x):
            early = self.relu1(self.conv1(x))
            late = self.relu2(self.conv2(early))
            return self.head(torch.cat([nets.spatial_mean(early), nets.spatial_mean(late)], 1))

    model, inputs = nets.fixed(Skipping()), nets.images()
    alive = whycam.explain(nets.twin(model), inputs).layer
    bias = model.conv2.bias.data.clone()
    model.conv2.bias.data.fill_(-1e3)  # as an input may switch off every unit of the last layer
    assert whycam.explain(model, inputs).layer.name in ("conv1", "relu1")
    model.conv2.bias.data.copy_(bias)
    assert whycam.explain(model, inputs).layer == alive


def test_the_last_relu_of_a_dead_network_is_not_passed_over():
    model, inputs = nets.plain(), nets.images()
    model.conv2.bias.data.fill_(-1e3)
    found = whycam.explain(model, inputs)
    assert found.layer.name == "conv2"
    assert {status.kind for status in found.status} == {"zero gradient"}
    assert "dead ReLU" in found.status[0].message
    model.conv2.bias.data.fill_(0)
    assert whycam.explain(model, inputs).layer == found.layer


def test_a_branch_that_runs_last_and_counts_for_nothing_is_passed_over():
    model, inputs = nets.fixed(nets.Beside()), nets.images()
    found = whycam.explain(model, inputs)
    assert found.layer.name in ("conv2", "relu2")
    assert "'decoder'" in found.layer.why
    assert found.maps.any()


def test_a_score_that_depends_on_nothing_is_an_error_with_no_layer_named_too():
    with pytest.raises(whycam.WhycamError, match="score does not depend"):
        whycam.explain(nets.plain(), nets.images(), target=lambda output: output[:, 0].detach())


def test_each_method_gets_the_side_that_the_evidence_speaks_for():
    model, inputs = nets.plain(), nets.images()
    made = whycam.compare(model, inputs, ["grad_cam", "layer_cam", "cam", "xgrad_cam", "hires_cam"])
    for name, each in methods().items():
        if name in {method for method, *_ in made}:
            assert [layer for method, layer, _ in made if method == name] == [
                {"before": "conv2", "after": "relu2"}[each.side]
            ]
    assert {layer for _, layer, _ in made} == {"conv2", "relu2"}
    assert made.cost.forwards == 2
    assert made.cost.backwards == 1


@pytest.mark.parametrize("make", [nets.plain, lambda: nets.plain(inplace=True)])
def test_writing_in_place_does_not_hide_the_side_before(make):
    assert whycam.explain(make(), nets.images()).layer.name == "conv2"


def test_observing_leaves_no_trace_and_is_remembered_for_the_shape():
    model = nets.plain()
    before = nets.state(model)
    first = whycam.explain(model, nets.images())
    assert first.cost.forwards == 2
    assert nets.differences(before, nets.state(model)) == []
    assert whycam.explain(model, nets.images(5)).cost.forwards == 1
    assert whycam.explain(model, nets.images(side=12)).cost.forwards == 2
    model.relu2 = nn.Identity()
    assert whycam.explain(model, nets.images()).cost.forwards == 2


def test_a_branch_that_runs_in_training_alone_is_not_remembered_for_prediction():
    class Auxiliary(nets.Plain):
        def __init__(self):
            super().__init__()
            self.extra = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            features = self.features(x)
            if self.training:
                features = self.extra(features)
            return self.head(nets.spatial_mean(features))

    model = nets.fixed(Auxiliary())
    assert whycam.explain(model.train(), nets.images()).layer.name == "extra"
    assert whycam.explain(model.eval(), nets.images()).layer.name == "conv2"


def test_pooling_and_resampling_are_passed_over():
    model = nets.fixed(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Flatten(), nn.Linear(144, 5)
        )
    )
    assert whycam.explain(model, nets.images()).layer.name == "0"
    assert whycam.explain(model, nets.images(), "layer_cam").layer.name == "1"


def test_dropout_in_training_is_passed_over():
    model = nets.fixed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(144, 5)))
    model[2].train()
    with pytest.warns(UserWarning, match="training mode"):
        assert whycam.explain(model, nets.images(), "layer_cam").layer.name == "1"


def test_a_network_without_spatial_features_is_refused():
    model = nets.fixed(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))
    with pytest.raises(whycam.WhycamError, match="no module of this model returns anything with spatial axes"):
        whycam.explain(model, nets.images())


def test_features_are_listed_with_all_their_names():
    found, _ = features(
        nets.fixed(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(144, 5))),
        nets.images(),
    )
    assert [(str(each.tap), each.names, each.grid) for each in found] == [
        ("0.0", ("0.0",), (6, 6)),
        ("0", ("0.1", "0"), (6, 6)),
    ]
    assert found[0].stride == (8 / 6, 8 / 6)


def test_the_models_own_layers_are_listed_for_people():
    rows = whycam.layers(nets.plain(), nets.images())
    assert [row.name for row in rows] == ["conv1", "relu1", "conv2", "relu2"]
    assert rows[2].chosen_for
    assert rows[3].chosen_for
    assert not rows[0].chosen_for


def test_the_list_of_layers_marks_what_is_really_chosen():
    model, inputs = vit(), torch.randn(2, 3, 64, 64)
    nn.init.normal_(model.head.weight)
    (marked,) = [row for row in whycam.layers(model, inputs) if row.chosen_for]
    assert marked.name == whycam.explain(model, inputs, "grad_cam").layer.name
    assert marked.chosen_for == ("every method",)
    assert "the gradient is zero" in marked.why


def test_the_last_stages_end_where_the_grid_shrinks():
    model, inputs = nets.plain(), nets.images()
    made = whycam.compare(model, inputs, ["layer_cam"], layers=["last 2 stages"])
    assert [layer for _, layer, _ in made] == ["relu1", "relu2"]
    fused = whycam.explain(model, inputs, "layer_cam", layer="last 2 stages", fusion="maximum")
    assert torch.equal(
        fused.maps, whycam.explain(model, inputs, "layer_cam", layer=["relu1", "relu2"], fusion="maximum").maps
    )
    assert whycam.explain(model, inputs, "layer_cam", layer="last 1 stage").layer.name == "relu2"
    with pytest.raises(whycam.WhycamError, match="2 stages, of 8x8, 4x4 locations, and not 3"):
        whycam.explain(model, inputs, layer="last 3 stages")


def test_well_known_stages():
    with torch.device("meta"):
        model = zoo.resnet18(weights=None).eval()
    model = model.to_empty(device="cpu")
    found, forwards = stages(model, PICTURE, 4)
    assert ([str(tap) for tap in found], forwards) == (["layer1", "layer2", "layer3", "layer4"], 1)


def test_a_layer_named_twice_counts_once():
    model, inputs = nets.plain(), nets.images()
    found = whycam.explain(model, inputs, layer=["relu2", "relu?", "relu1"])
    assert found.layer.name == "relu2 + relu1"


def test_what_a_pooling_left_over_is_no_feature():
    # a fixed window pools 8 x 16 to 1 x 2, and a convolution classifies both places
    model = nets.fixed(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(8),
            nn.Conv2d(4, 5, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
    )
    inputs = torch.randn(2, 3, 8, 16, dtype=torch.float64)
    assert whycam.explain(model, inputs, "layer_cam").layer.name == "1"
    assert whycam.explain(model, inputs).layer.name == "0"


class Turned(nets.Plain):
    """What a network may do to its input before the first layer sees it."""

    def __init__(self, turn):
        super().__init__()
        self.turn = turn

    def forward(self, x):
        return super().forward(self.turn(x))


@pytest.mark.parametrize(
    "turn", [lambda x: x.flip(-1), lambda x: x.transpose(2, 3), lambda x: x.roll(8, 2)], ids=["flip", "turn", "roll"]
)
def test_a_network_that_turns_its_input_is_refused_and_not_drawn_mirrored(turn):
    with pytest.raises(whycam.WhycamError, match="do not lie as in the input"):
        whycam.explain(nets.fixed(Turned(turn)), nets.images(side=16))


def test_a_network_that_scales_its_input_is_looked_at_and_explained():
    found = whycam.explain(nets.fixed(Turned(lambda x: (x - 0.5) / 0.2)), nets.images(side=16))
    assert (found.layer.name, found.layer.location) == ("conv2", "verified")


def test_a_second_look_at_a_mirrored_input_is_not_drawn_as_the_first():
    class Twice(nets.Plain):
        def forward(self, x):
            return super().forward(x) + super().forward(x.flip(-1))

    model, inputs = nets.fixed(Twice()), nets.images(side=16)
    found = whycam.explain(model, inputs)
    assert (found.layer.name, found.layer.location) == ("conv2#0", "verified")
    assert "those of 'conv2#1' do not" in found.layer.why or "those of 'relu2#1' do not" in found.layer.why
    with pytest.raises(whycam.WhycamError, match="do not lie as in the input"):
        whycam.explain(model, inputs, layer="conv2#1")


def test_each_part_of_an_output_has_a_layer_of_its_own():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nets.Plain(), nets.Plain()

        def forward(self, x):
            return {"a": self.a(x), "b": self.b(x)}

    def layer(model, part):
        return whycam.explain(model, nets.images(), output=part).layer

    model = nets.fixed(Branches())
    assert [layer(model, part).name for part in "abab"] == ["a.conv2", "b.conv2", "a.conv2", "b.conv2"]
    assert layer(model, "b") == layer(nets.fixed(Branches()), "b")
    assert whycam.explain(model, nets.images(), output="a").cost.forwards == 1


def test_a_frozen_backbone_in_inference_mode_is_looked_at():
    class Inference(nets.Plain):
        def features(self, x):
            with torch.inference_mode():
                return super().features(x)

    with pytest.raises(whycam.WhycamError, match="inference_mode"):
        whycam.explain(nets.fixed(Inference()), nets.images())
    assert whycam.layers(nets.fixed(Inference()), nets.images())[-1].name == "relu2"


def test_a_network_of_whole_batches_only_is_looked_at_with_all_of_them():
    class Three(nets.Tokens):
        def forward(self, x):
            assert len(x) == 3, "three at a time"
            return super().forward(x)

    model, inputs = nets.fixed(Three()), nets.images()
    found, expected = (whycam.explain(each, inputs).layer for each in (model, nets.fixed(nets.Tokens())))
    assert found.name == expected.name
    assert found.location == "undetermined"  # which takes five at a time


def test_a_sample_that_is_not_finite_does_not_choose_for_the_others():
    inputs = nets.images()
    expected = whycam.explain(nets.fixed(nets.Tokens()), inputs)
    spoiled = inputs.clone()
    spoiled[0, 0, 0, 0] = float("nan")
    found = whycam.explain(nets.fixed(nets.Tokens()), spoiled)
    assert found.layer == expected.layer
    assert torch.equal(found.maps[1:], expected.maps[1:])


def test_an_empty_first_picture_decides_nothing_for_good():
    model = nets.fixed(nets.Tokens())
    whycam.explain(model, torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    assert whycam.explain(model, nets.images()).layer == whycam.explain(nets.fixed(nets.Tokens()), nets.images()).layer


@pytest.mark.parametrize(("grid", "prefix"), [((2, 8), 2), ((3, 12), 5), ((4, 4), 9)])
def test_the_grid_of_the_patch_convolution_tells_how_many_tokens_precede(grid, prefix):
    class HandMade(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Conv2d(3, 8, 4, stride=4)
            self.block = nn.Sequential(nn.LayerNorm(8))
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            patches = self.project(x).flatten(2).mT
            first = patches.mean(1, keepdim=True).expand(-1, prefix, -1)
            return self.head(self.block(torch.cat([first, patches], 1)).mean(1))

    model, inputs = nets.fixed(HandMade()), torch.randn(2, 3, 4 * grid[0], 4 * grid[1], dtype=torch.float64)
    found = whycam.explain(model, inputs)
    assert found.layer.layout == str(Tokens(grid, prefix))
    assert found.layer.location == "verified"
    assert whycam.explain(nets.fixed(HandMade()), inputs, layer="block").layer.layout == str(Tokens(grid, prefix))


def test_a_place_that_cannot_be_told_is_a_note():
    mean = nets.fixed(
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Upsample(size=(4, 4)), ToLast(), nn.LayerNorm(8), Mean()
        )
    )
    found = whycam.explain(mean, nets.images(), layer="4", target=0)
    assert found.layer.location == "undetermined"
    assert any("could not be told" in note for note in found.notes)
    assert not any("could not be told" in note for note in whycam.explain(nets.plain(), nets.images()).notes)


def test_tokens_of_a_signal_are_not_taken_for_its_channels():
    class Signal(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv1d(3, 8, 4, stride=4)
            self.block = nn.Sequential(nn.LayerNorm(8))
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.block(self.embed(x).mT).mean(1))

    model, inputs = nets.fixed(Signal()), torch.randn(2, 3, 64, dtype=torch.float64)
    found = whycam.explain(model, inputs)
    assert (found.layer.layout, found.layer.grid, found.layer.location) == ("channels last", (16,), "verified")


class ToLast(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((1, 2))


def test_inputs_that_nothing_depends_on_settle_nothing():
    class Gated(nets.Tokens):
        def forward(self, x):
            return super().forward(x) * (x.mean() > 0)

    model, inputs = nets.fixed(Gated()), nets.images(2)
    inputs = inputs - inputs.mean() + 1
    target = partial(resolve, 1)
    expected, *_ = choose(nets.fixed(Gated()), inputs, side="after", resolve=target)
    choose(model, -inputs, side="after", resolve=target)
    found, *_ = choose(model, inputs, side="after", resolve=target)
    assert found == expected
    assert str(found.tap) == "blocks.0"  # of the last the answer reads the class token alone


def strided(rank, stages, *, width=4):
    """Halves each axis at each stage; the last has a second way beside its two steps."""
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            halves = [convolution(1 if i == 0 else width, width, 3, 2, 1) for i in range(stages + 1)]
            self.stages, self.second = nn.ModuleList(halves[:-2]), halves[-2]
            self.first, self.beside = convolution(width, width, 1), halves[-1]
            self.head = nn.Linear(width, 3)

        def forward(self, x):
            for stage in self.stages:
                x = stage(x)
            return self.head((self.beside(x) + self.second(self.first(x))).flatten(2).mean(2))

    return Net().eval()


@pytest.mark.parametrize(
    ("size", "chosen", "grid"),
    [((8, 32, 32), "stages.1", (2, 8, 8)), ((4, 32, 32), "stages.0", (2, 16, 16)), ((1, 32, 32), "second", (1, 4, 4))],
)
def test_volumes_keep_two_cells_on_every_axis(size, chosen, grid):
    """The layer is no step in a branch, which the score goes round; an axis of one cell in the input is not meant."""
    network, inputs = strided(3, 3), torch.randn(1, 1, *size)
    choice, *_ = choose(network, inputs, side="before")
    found = next(each for each in features(network, inputs)[0] if each.tap == choice.tap)
    assert (str(choice.tap), found.grid) == (chosen, grid)
    assert ("a single cell along an axis" in choice.why) == ("'second' comes later" in choice.why) == (size[0] > 1)


def test_a_layer_of_one_cell_along_an_axis_says_so_where_there_is_no_other():
    choice, *_ = choose(strided(3, 2), torch.randn(1, 1, 2, 32, 32), side="before")
    assert "it has a single cell along an axis of the input (1x8x8), as every other feature has" in choice.why


def test_pictures_keep_their_last_stage():
    """Also where it has one row, as before."""
    choice, *_ = choose(strided(2, 3), torch.randn(1, 1, 8, 32), side="before")
    assert (str(choice.tap), choice.why) == ("second", "the last feature with spatial axes (1x4)")


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18"])
def test_torchvisions_video_networks_on_eight_frames(name):
    with torch.device("meta"):
        model = getattr(zoo.video, name)(weights=None, num_classes=3).eval()
    choice, *_ = choose(model.to_empty(device="cpu"), torch.zeros(1, 3, 8, 32, 32), side="before")
    assert str(choice.tap) == "layer3"
    assert "'layer4' comes later and has a single cell" in choice.why
