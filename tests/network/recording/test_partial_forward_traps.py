"""Networks that could be resumed wrongly: each must give what whole forwards with the layer's output replaced give."""

import itertools

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import whycam
from whycam.kit.arrays import lazily


def mean(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


class Base(nn.Module):
    """A stem, a part that finishes before the layer, the layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.part = nn.Conv2d(6, 6, 3, padding=1)
        self.layer = nn.Conv2d(6, 6, 3, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.part(self.stem(x))
        return self.head(mean(self.join(a, self.layer(a))))

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return a + self.act(b)


class BatchStatistics(Base):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return self.norm(b)


class EarlyExit(Base):
    """Answers otherwise when any sample of the batch is sure."""

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return b if b.mean((1, 2, 3)).max() > 0.2 else a * b


class WritesByMask(Base):
    def join(self, a: Tensor, b: Tensor) -> Tensor:
        a.masked_fill_(b > 0, 0)
        return a + b


class WritesByIndex(Base):
    def join(self, a: Tensor, b: Tensor) -> Tensor:
        a[b < 0] = 0
        return a * b


class WritesItsInput(Base):
    def forward(self, x: Tensor) -> Tensor:
        x[x < 0] = 0
        return super().forward(x) + x.mean((1, 2, 3))[:, None]


class Table(Base):
    """A part without a batch axis, which is written to behind the layer."""

    class OutputPath(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(6))

        def forward(self) -> Tensor:
            return self.table * 2

    def __init__(self) -> None:
        super().__init__()
        self.bias = self.OutputPath()

    def forward(self, x: Tensor) -> Tensor:
        table, a = self.bias(), self.part(self.stem(x))
        b = mean(self.layer(a))
        table += 1
        return self.head(b * table)


class Noise(Base):
    """Draws random numbers although it is in evaluation mode."""

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return F.dropout(b, 0.5, training=True)


class Squeezed(Base):
    """Loses the batch axis where there is one row."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


class Gate(Base):
    """Reads, for samples of which it is not sure, what an in-place activation left in the tensor it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.layer(self.first(a))
        sure = b.mean((1, 2, 3), keepdim=True) > self.threshold
        return self.head(mean(torch.where(sure, b, b + a)))

    threshold = -1e9


class Stash(Base):
    """A part leaves something on the network, which is read for some samples."""

    class OutputPath(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            self.kept = super().forward(x)
            return self.kept * 0.5

    def __init__(self) -> None:
        super().__init__()
        self.part = self.OutputPath(6, 6, 3, padding=1)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.where(b.mean((1, 2, 3), keepdim=True) > 0, b, b + self.part.kept)


class SharedInside(Base):
    """One activation runs inside a part that finishes and again above the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(self.part, self.act, nn.Conv2d(6, 6, 1), self.act)


class Looped(Base):
    """One block runs three times."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh())
        del self.layer

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        for _ in range(3):
            a = self.block(a)
        return self.head(mean(a))


class Permuted(Base):
    """Returns another order of memory, on which the code behind relies."""

    class Layer(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.layer = self.Layer(self.layer)
        self.wide = nn.Linear(6 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        b = self.layer(self.part(self.stem(x)))
        return self.wide(b.permute(0, 2, 3, 1).view(len(x), -1))


class Scale(Base):
    """A part returns one number for all."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = Table.OutputPath()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.bias()[:1]
        return self.head(mean(self.layer(self.part(self.stem(x))))) * scale


KINDS = [
    BatchStatistics, EarlyExit, WritesByMask, WritesByIndex, WritesItsInput, Table, Noise, Squeezed, Gate, Stash,
    SharedInside, Permuted, Scale, Base,
]  # fmt: skip


def dropped(activations: Tensor, channel: int) -> Tensor:
    edited = activations.clone()
    if channel:  # the first variant is the record itself
        edited[:, channel] *= -3
    return edited


def channels(activations, score_from):
    made = score_from(lazily(lambda k: dropped(activations, k), range(activations.shape[1])))
    return made.mT[:, None].expand(-1, 2, -1) - 0.0


def by_hand(model: nn.Module, inputs: Tensor, layer: str, call: int = 0) -> Tensor:
    torch.manual_seed(5)
    index = model(inputs.clone()).reshape(len(inputs), -1).argmax(1)
    rows = []
    for k in range(6):
        calls = itertools.count()

        def see(_, __, output, k=k, calls=calls):
            return dropped(output, k) if next(calls) == call else None

        hook = model.get_submodule(layer).register_forward_hook(see)
        torch.manual_seed(5)
        answer = model(inputs.clone()).reshape(len(inputs), -1)
        rows.append(answer.gather(1, index[:, None]).squeeze(1))
        hook.remove()
    return torch.stack(rows, 1).detach()


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore:Use of .* on expanded tensors")
def test_the_scores_are_those_of_whole_forwards(kind, samples):
    if kind is Squeezed and samples == 1:
        pytest.skip("for one sample it answers with no batch at all")
    model, inputs = nets.fixed(kind()), nets.images(samples)
    if kind is Gate:
        answers = []
        hook = model.layer.register_forward_hook(lambda _, __, output: answers.append(output.detach().mean((1, 2, 3))))
        model(inputs)
        hook.remove()
        model.threshold = float(answers[0].min()) - 0.05
    expected = by_hand(model, inputs, "layer")
    kept, before = inputs.clone(), nets.state(model)
    torch.manual_seed(5)
    found = whycam.explain(model, inputs, channels, layer="layer")
    torch.testing.assert_close(found.maps[:, 0], expected.float())
    assert torch.equal(inputs, kept)
    torch.manual_seed(5)
    whycam.explain(model, inputs, channels, layer="layer", budget=1)
    if kind is not Noise:
        torch.testing.assert_close(found.maps[:, 0], expected.float())
        assert nets.differences(before, {**nets.state(model), "random numbers": before["random numbers"]}) == []


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_layer_inside_a_block_that_runs_again_and_again(call):
    model, inputs = nets.fixed(Looped()), nets.images(2)
    found = whycam.explain(model, inputs, channels, layer=f"block.0#{call}")
    torch.testing.assert_close(found.maps[:, 0], by_hand(model, inputs, "block.0", call).float())
    assert found.work[0].fallback == ""


@pytest.mark.parametrize(
    "kind", [SharedInside, Permuted, Scale, Gate, WritesByMask, WritesByIndex, WritesItsInput, Table]
)
@pytest.mark.filterwarnings("ignore:Use of .* on expanded tensors")
def test_the_part_is_run_where_it_can_be(kind):
    model, inputs = nets.fixed(kind()), nets.images(2)
    assert whycam.explain(model, inputs, channels, layer="layer").work[0].fallback == ""


@pytest.mark.parametrize(("kind", "reason"), [(Stash, "part.kept"), (Noise, "random numbers")])
def test_why_the_part_is_not_run_is_said(kind, reason):
    found = whycam.explain(nets.fixed(kind()), nets.images(2), channels, layer="layer")
    assert reason in found.work[0].fallback
    assert any(reason in note for note in found.notes)


def test_a_method_may_make_its_variants_in_one_place():
    def frugal(activations, score_from):
        def make():
            place = activations.clone()
            for k in range(6):
                old = place[:, k].clone()
                place[:, k] *= -3 if k else 1
                yield place
                place[:, k] = old

        made = score_from(make())
        return made.mT[:, None].expand(-1, 2, -1) - 0.0

    model, inputs = nets.fixed(Base()), nets.images(2)
    found = whycam.explain(model, inputs, frugal, layer="layer")
    torch.testing.assert_close(found.maps[:, 0], by_hand(model, inputs, "layer").float())


def test_variants_are_drawn_outside_of_the_callers_autocast():
    kinds = []

    def look(inputs, score):
        def make(k):
            kinds.append((torch.is_autocast_enabled("cpu"), (inputs.flatten(2) @ inputs.flatten(2).mT).dtype))
            return inputs * k

        made = score(lazily(make, range(4)))
        return made.mT[:, None].expand(-1, 2, -1) - 0.0

    model, inputs = nets.fixed(Base()).float(), nets.images(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        whycam.explain(model, inputs, look)
    assert set(kinds) == {(False, torch.float32)}


def test_a_network_that_writes_to_its_inputs_writes_to_no_variant():
    def twice(inputs, score):
        made = score([inputs, inputs, inputs])
        return made.mT[:, None].expand(-1, 2, -1) - 0.0

    model, inputs = nets.fixed(WritesItsInput()), nets.images(4)
    kept = inputs.clone()
    for budget in (1, None):
        scores = whycam.explain(model, inputs, twice, budget=budget).maps[:, 0]
        torch.testing.assert_close(scores, scores[:, :1].expand(-1, 3))
        assert torch.equal(inputs, kept)


def test_variants_of_other_shapes_or_batches_are_refused():
    def mixed(inputs, score):
        return score([inputs, inputs[:, :, :4]])

    def few(inputs, score):
        return score([inputs[:1]])

    model, inputs = nets.fixed(Base()), nets.images(2)
    with pytest.raises(whycam.WhycamError, match="one shape"):
        whycam.explain(model, inputs, mixed)
    with pytest.raises(whycam.WhycamError, match="whole batch"):
        whycam.explain(model, inputs, few)


class Prototypes(Base):
    """Answers with its prototypes beside the logits: a pack of six rows has as many as there are prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.ones(6, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.prototypes * 1.0, super().forward(x)


@pytest.mark.parametrize("samples", [1, 2])
def test_the_same_part_of_every_answer_is_explained(samples):
    model, inputs = nets.fixed(Prototypes()), nets.images(samples)
    found = whycam.explain(model, inputs, channels, layer="layer")

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x)[1]

    torch.testing.assert_close(found.maps[:, 0], by_hand(Alone(), inputs, "model.layer").float())


class Counter(Base):
    """Never answers the same twice."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return super().forward(x) * self.runs


def test_a_network_that_does_not_answer_the_same_twice_is_refused():
    with pytest.raises(whycam.WhycamError, match="same answer twice"):
        whycam.explain(nets.fixed(Counter()), nets.images(2), channels, layer="layer")


class Capacity(Base):
    """Silences all rows of a batch but the first four."""

    def forward(self, x: Tensor) -> Tensor:
        answer = super().forward(x)
        return torch.where(torch.arange(len(x))[:, None] < 4, answer, answer * 0)


def test_rows_that_matter_in_large_packs_alone_are_noticed():
    model, inputs = nets.fixed(Capacity()), nets.images(2)
    found = whycam.explain(model, inputs, channels, layer="layer")
    torch.testing.assert_close(found.maps[:, 0], by_hand(model, inputs, "layer").float())
    assert "change each other" in found.work[0].fallback
    assert found.work[0].alone
    assert any("each variant was run by itself" in note for note in found.notes)


class Folded(Base):
    """Two frames are one sample."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(0, (-1, 2)).mean(1)


def test_frames_folded_into_the_batch_are_refused_in_words():
    with pytest.raises(whycam.WhycamError, match="6 came for the 3"):
        whycam.explain(nets.fixed(Folded()), nets.images(6), "occlusion")
