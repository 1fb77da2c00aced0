"""Variants scored in batches: the same numbers whatever the batch, within memory, and nothing hidden."""

import weakref
from typing import ClassVar

import nets
import pytest
import torch
from torch import Tensor, nn

import whycam
from whycam.errors import WhycamError
from whycam.kit.arrays import lazily
from whycam.network.memory import peak_bytes
from whycam.network.variants import scoring
from whycam.targets import Contrast, Probability


def shades(inputs, score):
    """Scores of darker and darker inputs, as a map of one row: what a method could be."""
    made = score(lazily(lambda k: inputs * k / 7, range(1, 8)))
    return made.mT[:, None].expand(-1, 2, -1) - 0.0


def channels(activations, score_from):
    """The score without each channel, as a map of one row."""
    made = score_from(lazily(lambda k: dropped(activations, k), range(activations.shape[1])))
    return made.mT[:, None].expand(-1, 2, -1) - 0.0


def dropped(activations: Tensor, channel: int) -> Tensor:
    edited = activations.clone()
    edited[:, channel] = 0
    return edited


def by_hand(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
    rows = [model(inputs * k / 7).gather(1, index[:, None]).squeeze(1) for k in range(1, 8)]
    return torch.stack(rows, 1).detach()


def without_channels(model: nn.Module, inputs: Tensor, index: Tensor, layer: str = "relu2") -> Tensor:
    rows = []
    for k in range(8):
        hook = model.get_submodule(layer).register_forward_hook(lambda _, __, output, k=k: dropped(output, k))
        rows.append(model(inputs).gather(1, index[:, None]).squeeze(1))
        hook.remove()
    return torch.stack(rows, 1).detach()


class Counting(nets.Plain):
    """Keeps how many rows it was given in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return super().forward(x)


class Tight(nets.Plain):
    """Has memory for three rows."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error, self.rows = error, []

    def features(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        if len(x) > 3:
            if self.error is None:
                torch.empty(2**50)
            raise self.error
        return super().features(x)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("method", [shades, channels])
def test_the_scores_do_not_depend_on_how_variants_are_packed(monkeypatch, most, method):
    monkeypatch.setattr(scoring, "MOST_ROWS", most)
    model, inputs = nets.plain(), nets.images()
    index = model(inputs).argmax(1)
    expected = (by_hand if method is shades else without_channels)(model, inputs, index).float()
    layer = {} if method is shades else {"layer": "relu2"}
    found = whycam.explain(model, inputs, method, **layer)
    torch.testing.assert_close(found.maps[:, 0], expected)
    assert found.work[0].rows <= most


def test_rows_are_packed_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(scoring, "MOST_ROWS", 8)
    model = nets.fixed(Counting())
    whycam.explain(model, nets.images(), shades)
    # the recording, a pair of rows to learn from, seven variants of three samples, two at a time; the first two once
    # more by themselves
    assert model.rows == [3, 2, 6, 3, 3, 6, 6, 3]


def test_large_batches_are_cut(monkeypatch):
    monkeypatch.setattr(scoring, "MOST_ROWS", 2)
    model = nets.fixed(Counting())
    whycam.explain(model, nets.images(), shades)
    assert model.rows == [3, 2] + [2, 1] * 7


def test_variants_are_never_held_all_at_once(monkeypatch):
    monkeypatch.setattr(scoring, "MOST_ROWS", 4)
    alive: "weakref.WeakSet[Tensor]" = weakref.WeakSet()
    most = []

    def many(inputs, score):
        def make(k):
            made = inputs * k
            alive.add(made)
            most.append(len(alive))
            return made

        made = score(lazily(make, range(100)))
        return made.mT[:, None].expand(-1, 2, -1) - 0.0

    whycam.explain(nets.plain(), nets.images(1), many)
    assert max(most) <= 4  # they are copied into the pack one by one


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("out of memory"), None],
)
def test_where_memory_runs_out_the_rows_are_halved_and_it_is_said(error):
    model, plain, inputs = nets.fixed(Tight(error)), nets.plain(), nets.images(1)
    found = whycam.explain(model, inputs, shades)
    torch.testing.assert_close(found.maps[:, 0], by_hand(plain, inputs, plain(inputs).argmax(1)).float())
    assert found.work[0].halved == 1  # seven rows, then three
    assert any("memory ran out" in note for note in found.notes)


def test_a_network_without_memory_for_one_row_says_so_itself():
    model = nets.fixed(Tight(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        whycam.explain(model, nets.images(4), shades)


@pytest.mark.parametrize("budget", [100_000, 400_000, 4_000_000])
def test_the_budget_is_kept(budget):
    """An image of 64 x 64 takes 6 x 64 x 64 x 8 bytes and as much again in the ReLU behind it."""
    model, inputs = nets.plain(), nets.images(1, side=64)
    with peak_bytes() as counter:
        found = whycam.explain(model, inputs, shades, budget=budget)
    one = 2 * 6 * 64 * 64 * 8
    assert counter.peak < max(budget, 2.5 * one) + 8 * inputs.nbytes
    assert (found.work[0].rows > 1) == (budget > 2 * 2 * one)


@pytest.mark.parametrize("budget", [0, -1, True])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(WhycamError, match="number of bytes"):
        whycam.explain(nets.plain(), nets.images(), shades, budget=budget)


def test_a_probability_is_that_of_the_class():
    def likely(inputs, score):
        return score([inputs, inputs / 2], probability=True).mT[:, None].expand(-1, 2, -1) - 0.0

    model, inputs = nets.plain(), nets.images()
    for target in (2, Probability(2)):
        found = whycam.explain(model, inputs, likely, target=target).maps[:, 0]
        expected = torch.stack([model(x).softmax(1)[:, 2] for x in (inputs, inputs / 2)], 1)
        torch.testing.assert_close(found, expected.detach().float())
    with pytest.raises(WhycamError, match="no single class"):
        whycam.explain(model, inputs, likely, target=Contrast(2, 1))
    with pytest.raises(WhycamError, match="no single class"):
        whycam.explain(model, inputs, likely, target=lambda output: output[:, 2])


def test_a_probability_is_not_taken_twice():
    def likely(inputs, score):
        return score([inputs], probability=True).mT[:, None].expand(-1, 2, -1) - 0.0

    model, inputs = nn.Sequential(nets.plain(), nn.Softmax(1)), nets.images()
    found = whycam.explain(model, inputs, likely, target=2)
    torch.testing.assert_close(found.maps[:, 0, 0], model(inputs)[:, 2].detach().float())


def test_other_inputs_go_with_their_samples():
    model, pictures = nets.fixed(nets.TwoInputs()), nets.images()
    numbers = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    index = model(numbers, pictures).argmax(1)
    found = whycam.explain(model, (numbers, pictures), shades)
    expected = [model(numbers, pictures * k / 7).gather(1, index[:, None]) for k in range(1, 8)]
    torch.testing.assert_close(found.maps[:, 0], torch.cat(expected, 1).detach().float())
    found = whycam.explain(model, (numbers, pictures), channels, layer="relu2")
    expected = []
    for k in range(8):
        hook = model.relu2.register_forward_hook(lambda _, __, output, k=k: dropped(output, k))
        expected.append(model(numbers, pictures).gather(1, index[:, None]))
        hook.remove()
    torch.testing.assert_close(found.maps[:, 0], torch.cat(expected, 1).detach().float())


class Coupled(nets.Plain):
    """Every sample's answer depends on the others."""

    def forward(self, x: Tensor) -> Tensor:
        answer = super().forward(x)
        return answer - answer.mean(0) / 2


class OfThree(nets.Plain):
    """Takes three samples and no other number."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(3, 3, 8, 8))


@pytest.mark.parametrize("kind", [Coupled, OfThree])
def test_samples_that_cannot_be_told_apart_stay_together(kind):
    model, inputs = nets.fixed(kind()), nets.images()
    found = whycam.explain(model, inputs, shades)
    torch.testing.assert_close(found.maps[:, 0], by_hand(model, inputs, model(inputs).argmax(1)).float())
    found = whycam.explain(model, inputs, channels, layer="relu2")
    torch.testing.assert_close(found.maps[:, 0], without_channels(model, inputs, model(inputs).argmax(1)).float())


class Aside(nets.Plain):
    """Its second part reads what the first left on the network and did not return."""

    class First(nn.Module):
        def __init__(self, home: list[nn.Module], conv: nn.Module) -> None:
            super().__init__()
            self.home, self.conv = home, conv

        def forward(self, x: Tensor) -> Tensor:
            made = self.conv(x)
            self.home[0].aside = made.mean((2, 3))
            return made

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = self.First([self], self.conv1)
        self.aside = torch.zeros(1, 6, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.aside[:, :5]


class Elsewhere(nets.Plain):
    """Runs its second convolution by way of a function that only knows the model it was made for."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["run"] = Hidden(self.conv2)
        self.outer = nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        return self.relu2(self.run(self.relu1(self.conv1(x))))


class Hidden:
    """Keeps a module where copying does not look."""

    kept: ClassVar[dict[int, nn.Module]] = {}

    def __init__(self, module: nn.Module) -> None:
        self.kept[0] = module

    def __call__(self, x: Tensor) -> Tensor:
        return self.kept[0](x)


@pytest.mark.parametrize(("kind", "layer"), [(Aside, "relu1"), (Elsewhere, "conv2")])
def test_what_cannot_be_run_in_part_is_run_whole_and_it_is_said(kind, layer):
    model, inputs = nets.fixed(kind()), nets.images()
    channel_count = 6 if layer == "relu1" else 8
    before = nets.state(model)
    found = whycam.explain(model, inputs, channels, layer=layer)
    assert nets.differences(before, nets.state(model)) == []
    index = model(inputs).argmax(1)
    expected = without_channels(model, inputs, index, layer)[:, :channel_count] if layer != "relu1" else None
    if expected is not None:
        torch.testing.assert_close(found.maps[:, 0], expected.float())
    assert found.work[0].fallback
    assert found.work[0].part == "the whole network"
    assert any("whole forwards were run" in note for note in found.notes)


def test_runs_are_counted():
    model = nets.fixed(Counting())
    found = whycam.explain(model, nets.images(), shades)
    assert found.cost.forwards == 1 + 3 + 7  # the recording, rows to learn from, the variants
    assert found.cost.parts == 0
    model.rows.clear()
    found = whycam.explain(model, nets.images(), channels, layer="relu2")
    assert found.cost.forwards == 1
    assert model.rows == [3]  # the network itself; the part is run on a copy
    assert found.cost.parts == 4 + 8
    assert "12 runs of the part above the layer" in str(found.cost)


def test_nothing_to_score_is_said():
    def nothing(inputs, score):
        return score([])

    with pytest.raises(WhycamError, match="no variants"):
        whycam.explain(nets.plain(), nets.images(), nothing)


class Interrupting(nets.Plain):
    """Is interrupted by Ctrl-C in its fifth pass, whoever runs it."""

    passes = 0

    def features(self, x: Tensor) -> Tensor:
        made = super().features(x)
        type(self).passes += 1
        if type(self).passes == 5:
            raise KeyboardInterrupt
        return made


@pytest.mark.parametrize("method", [shades, channels])
def test_ctrl_c_half_way_leaves_everything_as_found(monkeypatch, method):
    monkeypatch.setattr(scoring, "MOST_ROWS", 2)
    monkeypatch.setattr(Interrupting, "passes", 0)
    model = nets.fixed(Interrupting())
    before = nets.state(model)
    with pytest.raises(KeyboardInterrupt):
        whycam.explain(model, nets.images(), method, **({"layer": "relu2"} if method is channels else {}))
    assert nets.differences(before, nets.state(model)) == []


def test_work_inside_a_variant_that_fails_leaves_everything_as_found():
    def breaking(inputs, score):
        return score(lazily(lambda k: inputs / (3 - k) if k < 3 else 1 / 0, range(9)))

    model = nets.plain()
    before = nets.state(model)
    with pytest.raises(ZeroDivisionError):
        whycam.explain(model, nets.images(), breaking)
    assert nets.differences(before, nets.state(model)) == []


class Lifted(nets.Plain):
    """Its answers stand on a constant that half precision does not hold: 100.4 becomes 100.5."""

    def __init__(self) -> None:
        super().__init__()
        self.ground = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float() + self.ground.float()


def test_what_a_fast_copy_is_off_by_everywhere_is_taken_off_its_scores():
    model, inputs = nets.fixed(Lifted()).float(), nets.images().float()
    model.ground.data.fill_(100.4)
    exact = whycam.explain(model, inputs, shades, target=1).maps
    found = whycam.explain(model, inputs, shades, target=1, precision="bfloat16")
    torch.testing.assert_close(found.maps, exact, rtol=0, atol=0.03)
    assert found.work[0].deviation < 0.03


@pytest.mark.parametrize(("odd", "seen"), [(0, True), (6, True), (13, True), (19, True), (3, False), (16, False)])
def test_the_sample_of_exact_scores_is_spread_over_all_variants(odd, seen):
    """Of twenty the first, the last and two between. All but one are what was recorded, whose scores are made exact."""

    def twenty(inputs, score):
        made = score([inputs / 2 if k == odd else inputs for k in range(20)])
        return made.mT[:, None].expand(-1, 2, -1) - 0.0

    model, inputs = nets.fixed(nets.Plain()).float(), nets.images().float()
    found = whycam.explain(model, inputs, twenty, target=1, precision="bfloat16")
    assert (found.work[0].deviation > 1e-5) == seen


def a_network(output: Tensor) -> scoring.Network:
    return scoring.Network(nets.plain(), nets.images(1), None, output, (False, torch.bfloat16))


@pytest.mark.parametrize(
    ("moved", "inside", "outside"),
    [
        (None, 0.09, 0.11),  # 1e-4 of the largest
        (0.5, 0.011, 0.013),  # 1.2e-5 of it counts as the same, however little another answer differs
        (4.0, 0.039, 0.041),  # a hundredth of how far another answer is off
        (400.0, 0.09, 0.11),  # and never more than without it
    ],
)
@pytest.mark.parametrize(("dtype", "coarser"), [(torch.float64, (1, 1)), (torch.bfloat16, (500, 1e-2 / 1.2e-5))])
def test_answers_are_the_same_up_to_rounding(moved, inside, outside, dtype, coarser):
    expected = torch.tensor([[1000.1, -300.3]], dtype=torch.float64)
    network = a_network(expected.to(dtype))
    scale = coarser[moved == 0.5]
    other = None if moved is None else expected + moved * coarser[0] * torch.tensor([0.0, 1.0])
    for off, same in ((inside, True), (outside, False)):
        found = expected - torch.tensor([0.0, off * scale])
        assert network.agrees(found, expected, network.tolerance, other) == same


@pytest.mark.parametrize(("budget", "rows"), [(1999, 9), (2000, 10), (2199, 10), (2200, 11), (1, 1)])
def test_rows_take_half_of_the_budget_at_most(budget, rows):
    """What operations need inside comes on top of what was seen to be alive."""
    runner = scoring.Whole(a_network(torch.zeros(1, 5)), scoring.RunConfig(budget=budget))
    runner.set_limit(peak=200, rows=2, held=1)
    assert (runner.limit, runner.group) == (rows, rows)
    runner.set_limit(peak=2, rows=2, held=100)
    assert runner.group == rows


@pytest.mark.parametrize(("each", "rows"), [(2**20, 32), (2**21, 16), (2**27, 1), (2**10, 256)])
def test_rows_on_a_processor_stay_within_its_caches_and_the_most(each, rows):
    runner = scoring.Whole(a_network(torch.zeros(1, 5)), scoring.RunConfig(budget=2**50))
    runner.set_limit(peak=each, rows=1, held=1)
    assert runner.limit == rows


@pytest.mark.parametrize(("held", "group"), [(2**20, 16), (2**25, 1), (2**14, 256)])
def test_packs_on_a_processor_stay_within_its_caches(held, group):
    runner = scoring.Whole(a_network(torch.zeros(1, 5)), scoring.RunConfig(budget=2**50))
    runner.set_limit(peak=1, rows=1, held=held)
    assert (runner.limit, runner.group) == (256, group)


class Viewed(nn.Module):
    """Looks at its inputs in the order of memory that they come in, which only rows one after the other bear."""

    def __init__(self):
        super().__init__()
        self.net, self.orders = nets.plain(), []

    def forward(self, x):
        self.orders.append(x.is_contiguous())
        return self.net(x.view(-1).view(x.shape))


@pytest.mark.parametrize("strict", [False, True])
def test_rows_that_run_together_have_their_channels_last_where_the_network_bears_it(strict):
    model, inputs = Viewed().eval() if strict else nets.plain(), nets.images()
    seen = []
    handle = model.register_forward_pre_hook(
        lambda module, given: seen.append((len(given[0]), given[0].is_contiguous()))
    )
    found = whycam.explain(model, inputs, "occlusion", target=1)
    handle.remove()
    assert not found.work[0].alone
    assert all(whole == strict for rows, whole in seen[-3:])
