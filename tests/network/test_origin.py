"""What the numbers of an output are: class scores, features, probabilities, one entry for each sample."""

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whycam
from whycam.errors import WhycamError

X = torch.randn(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, whatever follows, and the reference by plain autograd."""

    def __init__(self, head=None, width=6, **modules):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.head = head
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.head(self, self.conv(x).relu())


def by_hand(model, score, x=X, layer="conv"):
    """Grad-CAM at a layer of the score of the model's output, by plain autograd."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, out: kept.append(out) or None)
    scores = score(model(x))
    handle.remove()
    (gradients,) = torch.autograd.grad(scores.sum(), kept)
    return (gradients.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu().detach().float()


def pooled(x):
    return x.mean((2, 3))


FEATURES = {
    "pooled behind a normalization": ({"norm": nn.BatchNorm2d(6)}, lambda m, x: pooled(m.norm(x).relu()), "normaliz"),
    "a neck of batch norm": ({"neck": nn.BatchNorm1d(6)}, lambda m, x: m.neck(pooled(x)), "normaliz"),
    "a layer norm": ({"norm": nn.LayerNorm(6)}, lambda m, x: m.norm(pooled(x)), "normalization made it"),
    "a residual sum": ({"norm": nn.BatchNorm2d(6)}, lambda m, x: pooled((m.norm(x) + x).relu()), "normalization"),
    "pooled activations": ({}, lambda m, x: pooled(x), "an activation function behind its last layer made it"),
    "a hidden layer": ({"fc": nn.Linear(6, 7)}, lambda m, x: m.fc(pooled(x)).relu(), "an activation function"),
    "a projection": ({"proj": nn.Linear(6, 7)}, lambda m, x: m.proj(pooled(x)), "called 'proj'"),
    "an embedding": ({"top": nn.ModuleDict({"embedding": nn.Linear(6, 7)})},
                     lambda m, x: m.top["embedding"](pooled(x)), "called 'top.embedding'"),
    "a bare projection": ({"visual_proj": nn.Parameter(torch.randn(6, 7))},
                          lambda m, x: pooled(x) @ m.visual_proj, "called 'visual_proj'"),
    "a frozen projection": ({"proj": nn.Parameter(torch.randn(6, 7), requires_grad=False)},
                            lambda m, x: pooled(x) @ m.proj, "called 'proj'"),
    "two joined": ({"norm": nn.BatchNorm2d(6)},
                   lambda m, x: torch.cat([pooled(x), pooled(m.norm(x))], 1), "activation function|normalization"),
}  # fmt: skip


@pytest.mark.parametrize(("modules", "head", "why"), FEATURES.values(), ids=FEATURES)
def test_no_class_is_made_of_features(modules, head, why):
    model = nets.fixed(Net(head, **modules))
    with pytest.raises(WhycamError, match=f"is an embedding .*({why}).*no class"):
        whycam.explain(model, X, layer="conv")
    assert whycam.explain(model, X, "eigen_cam", layer="conv").predictions == ()
    found = whycam.explain(model, X, layer="conv", target=lambda output: output[:, 2])
    assert found.predictions == ()
    assert any("is an embedding" in note for note in found.notes)
    torch.testing.assert_close(found.maps, by_hand(model, lambda output: output[:, 2]))
    torch.testing.assert_close(whycam.explain(model, X, layer="conv", target=2).maps, found.maps)


def test_who_says_what_the_classes_are_is_believed():
    model = nets.fixed(Net(lambda m, x: pooled(x)))
    labels = list("abcdef")
    assert whycam.explain(model, X, labels=labels).target[0] in labels
    model.num_classes = 6
    assert whycam.explain(model, X).target[0].startswith("class ")


CLASSES = {
    "linear": ({"fc": nn.Linear(6, 7)}, lambda m, x: m.fc(pooled(x))),
    "by a function": ({"w": nn.Parameter(torch.randn(7, 6))}, lambda m, x: F.linear(pooled(x), m.w)),
    "scaled": ({"fc": nn.Linear(6, 7)}, lambda m, x: 30 * m.fc(pooled(x)) + 1),
    "a point convolution, active, then pooled": ({"last": nn.Conv2d(6, 7, 1)}, lambda m, x: pooled(m.last(x).relu())),
    "a convolution that is pooled": ({"last": nn.Conv2d(6, 7, 3)}, lambda m, x: pooled(m.last(x))),
    "two heads": ({"a": nn.Linear(6, 3), "b": nn.Linear(6, 4)},
                  lambda m, x: torch.cat([m.a(pooled(x)), m.b(pooled(x))], 1)),
    "an ensemble": ({"a": nn.Linear(6, 7), "b": nn.Linear(6, 7)}, lambda m, x: m.a(pooled(x)) + m.b(pooled(x)) / 2),
    "a softmax": ({"norm": nn.BatchNorm1d(6)}, lambda m, x: m.norm(pooled(x)).softmax(1)),
    "a log softmax": ({"norm": nn.BatchNorm1d(6)}, lambda m, x: m.norm(pooled(x)).log_softmax(1)),
}  # fmt: skip


@pytest.mark.parametrize(("modules", "head"), CLASSES.values(), ids=CLASSES)
def test_class_scores_are_told_from_features(modules, head):
    model = nets.fixed(Net(head, **modules))
    found = whycam.explain(model, X, layer="conv")
    top = model(X).argmax(1)
    assert [each.index for each in found.predictions] == top.tolist()
    torch.testing.assert_close(found.maps, by_hand(model, lambda output: output.gather(1, top[:, None])))


def test_what_made_the_output_costs_one_forward_once_and_none_for_a_plain_classifier():
    model = nets.fixed(Net(CLASSES["by a function"][1], w=nn.Parameter(torch.randn(7, 6))))
    first, again = (whycam.explain(model, X, layer="conv").cost.forwards for _ in range(2))
    assert (first, again) == (2, 1)
    plain = nets.fixed(Net(CLASSES["linear"][1], fc=nn.Linear(6, 7)))
    assert whycam.explain(plain, X, layer="conv").cost.forwards == 1


BESIDE = {
    "a tuple": lambda y: (y.softmax(1), y),
    "the other way round": lambda y: (y, y.softmax(1)),
    "independent classes": lambda y: (y.sigmoid(), y),
    "by unusual names": lambda y: {"a": y.softmax(1), "b": y},
    "by a usual name": lambda y: {"scores": y.softmax(1), "raw": y},
    "nested": lambda y: [{"probs": y.softmax(1)}, (y,)],
}


@pytest.mark.parametrize("wrap", BESIDE.values(), ids=BESIDE)
def test_of_probabilities_and_the_scores_behind_them_the_scores_are_explained(wrap):
    model = nets.fixed(Net(lambda m, x: wrap(8 * m.fc(pooled(x))), fc=nn.Linear(6, 7)))
    scores = nets.fixed(Net(lambda m, x: 8 * m.fc(pooled(x)), fc=nn.Linear(6, 7)))
    found = whycam.explain(model, X, layer="conv")
    torch.testing.assert_close(found.maps, by_hand(scores, lambda output: output.amax(1)))
    assert found.scores.tolist() == scores(X).amax(1).tolist()
    assert [each.probability for each in found.predictions] == scores(X).softmax(1).amax(1).tolist()


def test_probabilities_are_explained_where_they_are_asked_for():
    model = nets.fixed(Net(lambda m, x: (m.fc(pooled(x)).softmax(1), m.fc(pooled(x))), fc=nn.Linear(6, 7)))
    found = whycam.explain(model, X, layer="conv", output=0)
    torch.testing.assert_close(found.maps, by_hand(model, lambda output: output[0].amax(1)))
    assert any("already is a probability" in note for note in found.notes)


ONE_UNIT = {
    "(N, 1)": lambda y: y,
    "(N,)": lambda y: y[:, 0],
    "squeezed": lambda y: y.squeeze(),
    "(N, 1, 1)": lambda y: y[..., None],
    "(N, 1, 1, 1)": lambda y: y[..., None, None],
}


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("probability", [False, True], ids=["a score", "a probability"])
@pytest.mark.parametrize("method", ["grad_cam", "score_cam"])
@pytest.mark.parametrize("wrap", ONE_UNIT.values(), ids=ONE_UNIT)
def test_one_unit_is_explained_for_the_side_it_takes(wrap, method, probability, samples):
    made = (lambda y: wrap(torch.sigmoid(y))) if probability else wrap
    model = nets.fixed(Net(lambda m, x: made(m.fc(pooled(x)) - m.shift), fc=nn.Linear(6, 1), shift=0.0))
    x = X[:samples]
    model.shift = float(model(X).detach().logit().mean() if probability else model(X).detach().mean())
    values = model(x).detach().reshape(samples)
    upper = values >= (0.5 if probability else 0)
    sign = upper.double() * 2 - 1
    found = whycam.explain(model, x, method, layer="conv", progress=False)
    assert found.target == tuple(f"class {int(each)}" for each in upper)
    chance = values if probability else values.sigmoid()
    torch.testing.assert_close(
        torch.tensor([each.probability for each in found.predictions], dtype=torch.float64),
        torch.where(upper, chance, 1 - chance),
    )
    if method == "grad_cam":
        expected = by_hand(model, lambda output: output.reshape(samples) * sign, x)
        torch.testing.assert_close(found.maps, expected)


def test_many_classes_squeezed_for_one_photo_are_one_row():
    model = nets.fixed(Net(lambda m, x: m.fc(pooled(x)).squeeze(), fc=nn.Linear(6, 7)))
    rows = nets.fixed(Net(lambda m, x: m.fc(pooled(x)), fc=nn.Linear(6, 7)))
    for method in ("grad_cam", "score_cam", "ablation_cam", "rise"):
        options = {"samples": 8} if method == "rise" else {}
        found, expected = (whycam.explain(each, X[:1], method, progress=False, **options) for each in (model, rows))
        torch.testing.assert_close(found.maps, expected.maps)
        assert found.target == expected.target


def test_classes_behind_axes_of_one_location_are_read():
    model = nets.fixed(Net(lambda m, x: m.last(x).mean((2, 3), keepdim=True), last=nn.Conv2d(6, 7, 1)))
    top = model(X).flatten(1).argmax(1)
    found = whycam.explain(model, X, layer="conv")
    torch.testing.assert_close(found.maps, by_hand(model, lambda output: output.flatten(1).gather(1, top[:, None])))


def boxes(model, x):
    """As many boxes for each picture as it likes."""
    chances = model.last(x).sigmoid().flatten(1)
    return [{"scores": row[: 2 + number], "boxes": row[:4, None].expand(4, 4)} for number, row in enumerate(chances)]


LISTS = {
    "a dict for each sample": boxes,
    "a tuple of them": lambda m, x: tuple(boxes(m, x)),
    "tables of other lengths": lambda m, x: [each["boxes"][: 3 + n] for n, each in enumerate(boxes(m, x))],
}


@pytest.mark.parametrize("head", LISTS.values(), ids=LISTS)
def test_what_a_detector_finds_in_one_picture_is_no_class_of_the_batch(head):
    model = nets.fixed(Net(head, last=nn.Conv2d(6, 1, 1)))
    with pytest.raises(WhycamError, match=r"one entry for each sample, as detectors give it.*Pass whycam.targets.Box"):
        whycam.explain(model, X, layer="conv")
    found = whycam.explain(model, X, "eigen_cam", layer="conv")
    assert found.predictions == ()
    assert found.scores.isnan().all()
    assert whycam.explain(model, X, "eigen_cam").layer.name == "conv"


def best(output):
    return torch.stack([each["scores"].amax() for each in output])


@pytest.mark.parametrize("chosen", [False, True], ids=["a named layer", "a chosen layer"])
def test_a_function_gets_the_whole_output_where_no_part_of_it_is_an_answer(chosen):
    model = nets.fixed(Net(boxes, last=nn.Conv2d(6, 1, 1)))
    found = whycam.explain(model, X, layer=None if chosen else "conv", target=best)
    assert found.layer.name == "conv"
    torch.testing.assert_close(found.maps, by_hand(model, best))
    torch.testing.assert_close(found.scores, best(model(X)).detach())
    assert found.predictions == ()
    assert found.target == ("best", "best")
    both = whycam.compare(model, X, ["grad_cam", "score_cam"], ["conv"], [best, lambda output: -best(output)])
    assert len(both) == 4
    torch.testing.assert_close(both["grad_cam", "conv", best].maps, found.maps)


def test_a_function_that_gives_no_score_for_each_sample_gets_a_sentence():
    model = nets.fixed(Net(boxes, last=nn.Conv2d(6, 1, 1)))
    for wrong, came in ((lambda output: output[0]["scores"][:1, None], "shape"), (lambda output: 1.0, "a float")):
        with pytest.raises(WhycamError, match=f"the target returned {came}.*one score per sample"):
            whycam.explain(model, X, layer="conv", target=wrong)


@pytest.mark.parametrize("method", ["eigen_cam", "fem", "deep_feature_factorization"])
def test_a_method_that_explains_no_class_needs_none(method):
    segmenter = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))
    for layer in ("1", None):
        found = whycam.explain(nets.fixed(segmenter), X, method, layer=layer)
        assert found.predictions == ()
        assert found.target == ()
    assert found.layer.name == "1"


class Dense(nn.Module):
    """One encoder, a decoder for each task, and the answers as maps."""

    def __init__(self, last):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.mask = nn.Sequential(nn.Conv2d(6, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), *last)
        self.edge = nn.Sequential(nn.Conv2d(6, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), *last)

    def forward(self, x):
        z = self.encoder(x)
        return self.mask(z), self.edge(z)


LAST = {
    "nothing": [],
    "an upsampling": [nn.Upsample(scale_factor=2)],
    "a sigmoid": [nn.Sigmoid()],
    "a normalization": [nn.BatchNorm2d(2)],
    "a softmax and an upsampling": [nn.Softmax(1), nn.Upsample(scale_factor=2, mode="bilinear")],
}


@pytest.mark.parametrize("last", LAST.values(), ids=LAST)
def test_the_answer_itself_is_no_layer_to_choose(last):
    inside = torch.zeros(12 if any(isinstance(each, nn.Upsample) for each in last) else 6, 1, dtype=torch.float64)
    inside[3:5] = 1
    for part, name in enumerate(("mask", "edge")):
        model = nets.fixed(Dense(last))

        def score(output):
            return (output[:, 0] * inside).sum((1, 2))

        found = whycam.explain(model, X, "hires_cam", output=part, target=score)
        assert found.layer.name == f"{name}.1"
        named = whycam.explain(model, X, "hires_cam", output=part, target=score, layer=f"{name}.1")
        torch.testing.assert_close(found.maps, named.maps)
        assert "has no part in the answer" in found.layer.why or "is the answer itself" in found.layer.why


def test_a_network_that_is_nothing_but_its_answer_is_refused():
    with pytest.raises(WhycamError, match="every spatial feature of this model is its answer itself"):
        whycam.explain(nets.fixed(nn.Sequential(nn.Conv2d(3, 2, 1))), X, target=lambda output: output[:, 0].sum((1, 2)))


def test_maps_of_classes_that_are_pooled_are_chosen_all_the_same():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert whycam.explain(nets.fixed(model), X).layer.name == "2"


def total(output):
    return output.flatten(1).sum(1)


def corner(output):
    return output[:, 0, 0, 0]


class Decoded(nn.Module):
    """Tokens, then a convolutional decoder."""

    def __init__(self):
        super().__init__()
        self.p, self.n = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.b, self.d = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.ConvTranspose2d(16, 1, 4, 2, 1)

    def forward(self, x):
        t = self.b(self.n(self.p(x).flatten(2).transpose(1, 2)))
        return self.d(t.transpose(1, 2).reshape(len(x), 16, 3, 3))


def test_the_chosen_layer_does_not_depend_on_what_was_asked_before():
    def chosen(model, *targets):
        return [(e.layer.name, e.layer.why) for e in (whycam.explain(model, X, target=each) for each in targets)]

    first, second = (chosen(nets.fixed(Decoded()), target)[0] for target in (total, corner))
    assert chosen(nets.fixed(Decoded()), total, corner, total) == [first, second, first]
    assert chosen(nets.fixed(Decoded()), corner, total, corner) == [second, first, second]
    refused = nets.fixed(Decoded())
    with pytest.raises(WhycamError, match="not \\(batch, class\\)"):
        whycam.explain(refused, X)
    assert chosen(refused, total, corner) == [first, second]
