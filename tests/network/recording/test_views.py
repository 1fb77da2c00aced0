"""Networks that look at several pictures: whose map it is, drawn on what it looks at; and batches in parts."""

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam import WhycamError
from whycam.network.recording.views import _differ, arrange


def backbone():
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())


class Siamese(nn.Module):
    """One backbone for two pictures, in either order; the answer weighs the second one's features twice."""

    def __init__(self, *, second_first=False):
        super().__init__()
        self.backbone = backbone()
        self.head = nn.Linear(8, nets.CLASSES)
        self.second_first = second_first

    def forward(self, left, right):
        if self.second_first:
            b = self.backbone(right)
            a = self.backbone(left)
        else:
            a, b = self.backbone(left), self.backbone(right)
        return self.head(nets.spatial_mean(a) - 2 * nets.spatial_mean(b))


LEFT, RIGHT = nets.images(seed=1), nets.images(seed=2)


def by_hand(model, picture, sign, index=1):
    """Grad-CAM of one picture's features, which enter the answer times `sign`, worked out."""
    activations = model.backbone(picture).detach()
    weights = sign * model.head.weight[index].detach() / activations[0, 0].numel()
    return (activations * weights[:, None, None]).sum(1).relu().float()


@pytest.mark.parametrize("second_first", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_each_call_of_a_siamese_network_is_drawn_on_its_own_picture(second_first, named):
    model = nets.fixed(Siamese(second_first=second_first))
    inputs = {"left": LEFT, "right": RIGHT} if named else (LEFT, RIGHT)
    names = [".left", ".right"] if named else ["[0]", "[1]"]
    made = whycam.compare(model, inputs, ["grad_cam"], ["backbone#*"], [1])
    assert [layer for _, layer, _ in made] == ["backbone#0", "backbone#1"]
    for call, each in enumerate(made.values()):
        which = 1 - call if second_first else call
        torch.testing.assert_close(each.maps, by_hand(model, (LEFT, RIGHT)[which], (1, -2)[which]))
        assert each.context.inputs is (LEFT, RIGHT)[which]
        assert f"this is call #{call} (choose with '#'); drawn on input {names[which]}" in each.layer.why
        assert "order" not in each.layer.why
    assert made["grad_cam", "backbone#0"].maps.any()
    assert made["grad_cam", "backbone#1"].maps.any()


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "layer_cam"])
def test_the_last_call_is_taken_and_a_call_can_be_named(method):
    model = nets.fixed(Siamese())
    last, first = (whycam.explain(model, (LEFT, RIGHT), method, layer=name) for name in ("backbone", "backbone#0"))
    assert (last.layer.name, first.layer.name) == ("backbone#1", "backbone#0")
    assert last.context.inputs is RIGHT
    assert first.context.inputs is LEFT
    assert not torch.equal(first.maps, last.maps)


def test_pictures_that_two_networks_look_at_are_told_apart():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.color, self.depth = backbone(), backbone()
            self.joined = nn.Conv2d(16, 8, 1)
            self.head = nn.Linear(8, nets.CLASSES)

        def forward(self, color, depth):
            return self.head(nets.spatial_mean(self.joined(torch.cat([self.color(color), self.depth(depth)], 1))))

    model = nets.fixed(Two())
    deep = whycam.explain(model, (LEFT, RIGHT), layer="depth")
    assert deep.context.inputs is RIGHT
    assert deep.layer.why == "as asked; drawn on input [1]"
    assert whycam.explain(model, (LEFT, RIGHT), layer="color").context.inputs is LEFT
    both = whycam.explain(model, (LEFT, RIGHT), layer="joined")
    assert both.context.inputs is LEFT
    assert "drawn on input [0], the first of 2 that it looks at (say otherwise with views=)" in both.layer.why
    assert whycam.explain(model, (LEFT, RIGHT), layer="joined", views=[1]).context.inputs is RIGHT


def test_what_a_pass_looks_at_is_measured_once():
    model, ran = nets.fixed(Siamese()), []
    model.register_forward_hook(lambda *_: ran.append(1))
    costs = [whycam.explain(model, (LEFT, RIGHT), layer="backbone").cost.forwards for _ in range(2)]
    assert costs == [4, 1]  # one of the batch, and of one sample one plain and one for each picture
    assert len(ran) == 5
    assert whycam.explain(model, (LEFT, RIGHT), layer="backbone", views=[0, 1]).cost.forwards == 1


def test_one_picture_is_never_looked_for(monkeypatch):
    monkeypatch.setattr("whycam.network.recording.views._changed", lambda *_: pytest.fail("looked for"))
    whycam.explain(nets.plain(), nets.images(), layer="conv2")
    whycam.explain(nets.fixed(nets.Shared()), nets.images(), layer="relu")
    whycam.explain(nets.plain(3), nets.images(rank=3), layer="conv2")
    whycam.explain(nets.fixed(nets.TwoInputs()), (torch.ones(3, 2, dtype=torch.float64), nets.images()), layer="conv2")


def test_pictures_of_other_sizes_have_their_own_grid_and_stride():
    model, wide = nets.fixed(Siamese()), nets.images(side=8, seed=3).repeat(1, 1, 1, 3)
    made = whycam.compare(model, (LEFT, wide), layers=["backbone#*"])
    assert [each.layer.grid for each in made.values()] == [(4, 4), (4, 12)]
    assert [each.layer.stride for each in made.values()] == [(2.0, 2.0), (2.0, 2.0)]
    assert [each.heatmaps().shape for each in made.values()] == [(3, 8, 8), (3, 8, 24)]


def test_tokens_are_laid_out_on_their_own_picture():
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 4, 2, stride=2)
            self.mix = nn.Linear(4, 4)
            self.head = nn.Linear(4, 5)

        def forward(self, a, b):
            tokens = [self.mix(self.embed(picture).flatten(2).mT) for picture in (a, b)]
            return self.head(sum(each.mean(1) for each in tokens))

    long = nets.images(seed=3)[:, :, :4].repeat(1, 1, 1, 4)
    made = whycam.compare(nets.fixed(Pairs()), (LEFT, long), layers=["mix#*"])
    assert [each.layer.grid for each in made.values()] == [(4, 4), (2, 16)]


def test_maps_of_different_pictures_are_not_fused():
    model = nets.fixed(Siamese())
    for layer in ("backbone#*", ["backbone.0#0", "backbone.2#1"]):
        with pytest.raises(WhycamError, match=r"different pictures cannot be fused: .*input \[0\].*'NAME#0'"):
            whycam.explain(model, (LEFT, RIGHT), layer=layer)
    fused = whycam.explain(model, (LEFT, RIGHT), layer=["backbone.0#1", "backbone.2#1"])
    assert fused.context.inputs is RIGHT


def test_a_method_that_reads_the_input_too_reads_the_first_one():
    model = nets.fixed(Siamese())
    assert whycam.explain(model, (LEFT, RIGHT), "guided_grad_cam", layer="backbone#0").maps.any()
    with pytest.raises(
        WhycamError, match=r"reads guided_gradients of the first input, and layer 'backbone#1' looks at"
    ):
        whycam.explain(model, (LEFT, RIGHT), "guided_grad_cam", layer="backbone#1")


def test_the_caller_may_say_what_each_call_looks_at():
    model = nets.fixed(Siamese())
    third = nets.images(seed=5)
    for views, scenes in {
        (1, 0): (RIGHT, LEFT),
        ("[1]", "[0]"): (RIGHT, LEFT),
        (third, 0): (third, LEFT),
    }.items():
        made = whycam.compare(model, (LEFT, RIGHT), layers=["backbone#*"], views=list(views))
        assert all(each.context.inputs is context for each, context in zip(made.values(), scenes, strict=True))
    named = whycam.explain(model, {"left": LEFT, "right": RIGHT}, layer="backbone", views=["right", "left"])
    assert named.context.inputs is LEFT
    assert named.layer.why.endswith("drawn on input .left, as asked")


@pytest.mark.parametrize(
    ("views", "sentence"),
    [
        ([0], "passes 2 times through layer 'backbone', and another number of views came"),
        ([0, 1, 0], "another number of views"),
        ([0, 2], r"views names 2, which is no input; there is \[0\], \[1\]"),
        (["left", "right"], "views names 'left'"),
        ("left", "views is a list with one entry for each call"),
        ([], "views is a list"),
        ([LEFT[0, 0], LEFT], r"a view is a picture.*views\[0\] is torch.float64 of shape \(8, 8\)"),
    ],
    ids=str,
)
def test_wrong_views_get_a_sentence(views, sentence):
    model = nets.fixed(Siamese())
    with pytest.raises(WhycamError, match=sentence):
        whycam.explain(model, (LEFT, RIGHT), layer="backbone", views=views)


def test_views_are_for_layers():
    with pytest.raises(WhycamError, match=r"works at the \(first\) input and at no layer\. Leave views out"):
        whycam.explain(nets.fixed(Siamese()), (LEFT, RIGHT), "guided_backprop", views=[0, 1])


def test_maps_of_several_pictures_are_drawn_each_on_its_own(tmp_path):
    made = whycam.compare(nets.fixed(Siamese()), (LEFT.float().double(), RIGHT), layers=["backbone#*"], targets=[1])
    pictures = [each[0].overlay(opacity=0.0, caption=False) for each in made.values()]
    expected = [
        whycam.explain(nets.plain(), picture, layer="conv2")[0].overlay(opacity=0.0, caption=False)
        for picture in (LEFT, RIGHT)
    ]
    assert [picture.tobytes() for picture in pictures] == [picture.tobytes() for picture in expected]
    assert made.figure(sample=None) is not None
    assert len(made["grad_cam", "backbone#1"].save(tmp_path)) == 9


def test_views_of_one_tensor_are_passed_as_pictures():
    with pytest.raises(WhycamError, match=r"views names 0, which is no input.*inputs\.unbind\(1\)"):
        whycam.explain(nets.plain(), nets.images(), layer="conv2", views=[0])


def test_a_network_that_cannot_be_run_on_one_sample_is_drawn_in_order_and_says_so():
    class Batches(Siamese):
        def forward(self, left, right):
            if len(left) == 1:
                raise ValueError("whole batches only")
            return super().forward(left, right)

    made = whycam.compare(nets.fixed(Batches()), (LEFT, RIGHT), layers=["backbone#*"])
    for call, each in enumerate(made.values()):
        assert each.context.inputs is (LEFT, RIGHT)[call]
        assert each.layer.why.endswith(f"drawn on input [{call}], by order (say otherwise with views=)")


class Views(nn.Module):
    """Several views of each sample, in one tensor, folded into the batch one way or another, or looked at in turn."""

    def __init__(self, how, axis=1):
        super().__init__()
        self.backbone = backbone()
        self.head = nn.Linear(8, nets.CLASSES)
        self.how, self.axis = how, axis

    def forward(self, x):
        views = x.movedim(self.axis, 1)
        count = views.shape[1]
        if self.how == "by sample":
            features = self.backbone(views.flatten(0, 1)).unflatten(0, (len(x), count))
        elif self.how == "by view":
            features = self.backbone(views.transpose(0, 1).flatten(0, 1)).unflatten(0, (count, len(x))).transpose(0, 1)
        elif self.how == "in turn":
            features = torch.stack([self.backbone(view) for view in views.unbind(1)], 1)
        elif self.how == "backwards":
            features = torch.stack([self.backbone(view) for view in views.unbind(1)[::-1]], 1).flip(1)
        elif self.how == "in parts":
            parts = [self.backbone(part) for part in views.flatten(0, 1).split(3)]
            features = torch.cat(parts).unflatten(0, (len(x), count))
        factors = torch.arange(1, count + 1).to(x)  # the views count differently
        return self.head((features.mean((3, 4)) * factors[:, None]).sum(1))


def stacked(axis=1, count=4):
    return torch.stack([nets.images(seed=seed) for seed in range(count)], axis)


@pytest.mark.parametrize("how", ["by sample", "by view", "in turn", "backwards"])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam"])
def test_each_view_of_a_sample_has_its_own_map_on_its_own_picture(how, axis, method):
    model, inputs = nets.fixed(Views(how, axis)), stacked(axis)
    made = whycam.compare(model, inputs, [method], ["backbone#*"], [1])
    assert [layer for _, layer, _ in made] == [f"backbone#{n}" for n in range(4)]
    for number, each in enumerate(made.values()):
        view = 3 - number if how == "backwards" else number
        picture = inputs.select(axis, view)
        assert torch.equal(each.context.inputs, picture)
        expected = by_hand(model, picture, view + 1)
        if method == "eigen_cam":
            expected = whycam.explain(nn.Sequential(model.backbone, nn.Flatten()), picture, method, layer="0").maps
        torch.testing.assert_close(each.maps, expected)
        assert each.layer.grid == (4, 4)
        assert f"drawn on input [{':, ' * axis}{view}]" in each.layer.why
    one = whycam.explain(model, inputs, method, layer="backbone#1", **({"target": 1} if method == "grad_cam" else {}))
    assert torch.equal(one.maps, made[method, "backbone#1"].maps)


def test_views_folded_into_parts_of_the_batch_are_put_together():
    model, inputs = nets.fixed(Views("in parts")), stacked(count=2)
    made = whycam.compare(model, inputs, ["grad_cam"], ["backbone#*"], [1], views=list(inputs.unbind(1)))
    for view, each in enumerate(made.values()):
        torch.testing.assert_close(each.maps, by_hand(model, inputs[:, view], view + 1))


def test_as_many_views_as_channels_are_told_from_them():
    for axis in (1, 2):
        model, inputs = nets.fixed(Views("by sample", axis)), stacked(axis, count=3)
        found = whycam.explain(model, inputs, layer="backbone#0")
        assert torch.equal(found.context.inputs, inputs.select(axis, 0))


def test_one_sample_of_several_views():
    model, inputs = nets.fixed(Views("by view")), stacked()[:1]
    made = whycam.compare(model, inputs, ["grad_cam"], ["backbone#*"], [1])
    for view, each in enumerate(made.values()):
        torch.testing.assert_close(each.maps, by_hand(model, inputs[:, view], view + 1))


def test_views_that_the_caller_folded_into_the_batch_are_put_with_their_samples():
    class Voting(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = backbone()
            self.head = nn.Linear(8, nets.CLASSES)

        def forward(self, x):
            return self.head(nets.spatial_mean(self.backbone(x)).unflatten(0, (-1, 2)).mean(1))

    model, inputs = nets.fixed(Voting()), nets.images(6)
    made = whycam.compare(model, inputs, ["grad_cam"], ["backbone#*"], [1])
    for view, each in enumerate(made.values()):
        assert torch.equal(each.context.inputs, inputs[view::2])
        torch.testing.assert_close(each.maps, by_hand(model, inputs[view::2], 0.5))


def test_windows_folded_into_the_batch_are_no_views():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.window = nn.Conv2d(3, 8, 3, padding=1)
            self.head = nn.Linear(8, nets.CLASSES)

        def forward(self, x):
            windows = x.unflatten(3, (2, 4)).movedim(3, 1).flatten(0, 1)
            return self.head(nets.spatial_mean(self.window(windows)).unflatten(0, (-1, 2)).mean(1))

    model = nets.fixed(Windows())
    with pytest.raises(WhycamError, match=r"returned 6 samples where the model answers for 3: 2 of each.*views="):
        whycam.explain(model, nets.images(), layer="window")
    halves = [nets.images()[..., :4], nets.images()[..., 4:]]
    found = whycam.explain(model, nets.images(), layer="window", views=halves, target=1)
    assert found.context.inputs is halves[1]
    activations = model.window(halves[1]).detach()
    weights = 0.5 * model.head.weight[1].detach() / activations[0, 0].numel()
    torch.testing.assert_close(found.maps, (activations * weights[:, None, None]).sum(1).relu().float())


def test_rows_that_belong_to_several_samples_are_refused():
    class Mixing(Views):
        def forward(self, x):
            features = self.backbone(x.flatten(0, 1))
            return self.head(nets.spatial_mean(features + features.mean(0)).unflatten(0, (len(x), -1)).sum(1))

    with pytest.raises(WhycamError, match="which belong to which cannot be told by gradients"):
        whycam.explain(nets.fixed(Mixing("by sample")), stacked(), layer="backbone")


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "hires_cam", "fem", "cam"])
@pytest.mark.parametrize(("size", "backwards"), [(2, False), (2, True), (1, False), (1, True), (3, True), (4, False)])
def test_parts_of_the_batch_are_put_together_in_the_order_of_the_samples(method, size, backwards):
    inputs = nets.images(5)
    expected = whycam.explain(nets.plain(), inputs, method, layer="relu2")
    found = whycam.explain(nets.fixed(nets.Parts(size, backwards=backwards)), inputs, method, layer="relu2")
    torch.testing.assert_close(found.maps, expected.maps)
    assert found.layer.name == "relu2"
    assert "on parts of the batch, put together in the order of the samples" in found.layer.why
    assert found.context.inputs is inputs


def test_parts_of_the_batch_with_mixed_targets_and_a_chosen_layer():
    inputs, targets = nets.images(5), [4, 0, 2, None, 1]
    found = whycam.explain(nets.fixed(nets.Parts(2)), inputs, target=targets)
    expected = whycam.explain(nets.plain(), inputs, target=targets)
    torch.testing.assert_close(found.maps, expected.maps)
    assert found.layer.name == expected.layer.name == "conv2"
    assert found.status == expected.status


def test_a_module_that_runs_twice_in_each_part_has_two_passes():
    class Twice(nets.Shared):
        def forward(self, x):
            return torch.cat([super(Twice, self).forward(part) for part in x.split(2)])

    inputs = nets.images(4)
    for name in ("conv2", "conv2#0", "conv2#1"):
        found = whycam.explain(nets.fixed(Twice()), inputs, layer=name, target=1)
        expected = whycam.explain(nets.fixed(nets.Shared()), inputs, layer=name, target=1)
        torch.testing.assert_close(found.maps, expected.maps)
        assert found.layer.name == expected.layer.name
        assert found.context.inputs is inputs


def test_parts_cost_one_more_backward_and_without_gradients_one_more_forward():
    model, inputs = nets.fixed(nets.Parts(2)), nets.images(5)
    cost = whycam.explain(model, inputs, layer="relu2").cost
    assert (cost.forwards, cost.backwards) == (1, 2)
    cost = whycam.explain(model, inputs, "eigen_cam", layer="relu2").cost
    assert (cost.forwards, cost.backwards) == (2, 2)
    assert whycam.explain(model, inputs[:2], layer="relu2").cost.backwards == 1  # which is one part


ROWS = torch.tensor([[1.0, 2.0], [-3.0, 1.0], [0.5, 0.5], [2.0, 0.0], [1.0, 1.0], [0.0, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        ([0, 0, 1, 1, 2, 2], [[0, 2, 4], [1, 3, 5]]),
        ([0, 1, 2, 0, 1, 2], [[0, 1, 2], [3, 4, 5]]),
        ([2, 0, 1, 1, 0, 2], [[1, 2, 0], [4, 3, 5]]),
        ([0, None, None, None, None, 2], [[0, 2, 4], [1, 3, 5]])
        if False
        else ([0, 0, None, 1, 2, None], [[0, 2, 4], [1, 3, 5]]),
        ([0, None, 2, 0, None, None], [[0, 1, 2], [3, 4, 5]]),
        ([0, None, None, None, None, 2], None),  # sample by sample or view by view
        ([None] * 6, None),
        ([0, 0, 0, 1, 2, 2], None),
        ([0, -1, 1, 1, 2, 2], None),
    ],
)
def test_rows_are_put_with_the_sample_whose_score_has_gradient_there(owners, expected, half):
    known = torch.tensor([owner is not None for owner in owners])
    times = torch.tensor([0.0 if owner is None else 1.5 if owner == -1 else owner + 1 for owner in owners])
    plain = ROWS * known[:, None]
    weighted = plain * times[:, None]
    if half:
        plain, weighted = plain.bfloat16(), weighted.bfloat16()
    found = arrange(plain, weighted, 3)
    assert (found.tolist() if found is not None else None) == expected


@pytest.mark.parametrize("how", ["by sample", "by view", "in turn"])
@pytest.mark.parametrize("axis", [1, 2])
def test_the_layer_is_chosen_for_several_views_too(how, axis):
    model, inputs = nets.fixed(Views(how, axis)), stacked(axis)
    found = whycam.explain(model, inputs, target=1)
    assert found.layer.name == "backbone.2#3"
    assert found.layer.grid == (4, 4)
    assert torch.equal(found.context.inputs, inputs.select(axis, 3))
    torch.testing.assert_close(found.maps, whycam.explain(model, inputs, target=1, layer="backbone.2#3").maps)


def test_the_layer_is_chosen_for_siamese_networks_too():
    found = whycam.explain(nets.fixed(Siamese()), (LEFT, RIGHT), target=1)
    assert found.layer.name == "backbone.2#1"
    assert found.context.inputs is RIGHT


def test_a_row_that_counts_for_two_samples_belongs_to_neither():
    plain = ROWS.clone()
    weighted = plain * torch.tensor([1, 1, 2, 2, 3, 3])[:, None]
    assert arrange(plain, weighted, 3).tolist() == [[0, 2, 4], [1, 3, 5]]
    plain[2], weighted[2] = torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0])  # in all twice, as one sample's would be
    assert arrange(plain, weighted, 3) is None


@pytest.mark.parametrize(("times", "told"), [(1.24, True), (1.26, False), (1.74, False), (1.76, True)])
def test_a_row_that_counts_a_broken_number_of_times_belongs_to_no_sample(times, told):
    plain = torch.ones(2, 3)
    weighted = plain * torch.tensor([[times], [3 - round(times)]])
    found = arrange(plain, weighted, 2)
    assert (found is not None) == told
    if told:
        assert found.tolist() == ([[0, 1]] if times < 1.5 else [[1, 0]])


@pytest.mark.parametrize(("share", "told"), [(0.04, True), (0.06, False)])
def test_a_row_whose_gradient_turns_belongs_to_no_sample(share, told):
    plain = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    weighted = torch.tensor([[1.0, share], [2.0, 0.0]])
    assert (arrange(plain, weighted, 2) is not None) == told


@pytest.mark.parametrize(("change", "differ"), [(0.9e-4, False), (1.1e-4, True)])
def test_what_a_device_does_by_itself_is_no_difference(change, differ):
    one = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    assert _differ(one, one + torch.tensor([0, 0, 2 * change])) == differ
    assert _differ(one, one[:2])
