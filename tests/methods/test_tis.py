"""TIS against the paper's steps written out point by point in numpy."""

import nets
import numpy as np
import pytest
import torch
from small_vit import Block, ByItself, SmallViT, pictures, small_vit

import whycam
from whycam.kit.arrays import generator as drawing  # which channels come first: no paper fixes the draws
from whycam.methods.tis import tis

every_rank = pytest.mark.parametrize("space", [(7,), (3, 4), (2, 3, 2)], ids=["1d", "2d", "3d"])


def clustered(points, count, seed):
    """Lloyd's rounds, by every distance."""
    first = torch.randperm(len(points), generator=drawing(seed))[:count]
    means = [points[number] for number in first]
    nearest = None
    while True:
        now = [int(np.argmin([((point - mean) ** 2).sum() for mean in means])) for point in points]
        if now == nearest:
            return means
        nearest = now
        for number in range(len(means)):
            members = [point for point, mine in zip(points, nearest, strict=True) if mine == number]
            means[number] = np.mean(members, 0) if members else means[number]


def by_loops(outputs, net, *, samples, keep, seed=0):
    maps = []
    for n in range(len(outputs[0])):
        points = [channel.ravel() for block in outputs for channel in block[n].numpy()]
        summed, held = np.zeros(len(points[0])), np.zeros(len(points[0]))
        for mean in clustered(points, samples, seed):
            chosen = np.argsort(-mean)[: max(1, int(keep * len(mean)))]
            shown = np.zeros(len(mean))
            shown[chosen] = 1
            score = float(net(torch.from_numpy(shown.reshape(outputs[0].shape[2:]))[None]))
            summed[chosen] += score
            held[chosen] += 1
        maps.append((summed / np.where(held, held, 1)).reshape(outputs[0].shape[2:]))
    return torch.from_numpy(np.stack(maps))


class Scored:
    """`score_tokens` of a network of what each location says; a probability is a sigmoid of the score here."""

    def __init__(self, generator, space):
        self.weights = torch.randn(space, generator=generator, dtype=torch.float64)
        self.shown = []

    def net(self, shown, probability=True):
        score = (self.weights * shown).flatten(1).sum(1).square()
        return score.sigmoid() if probability else score

    def __call__(self, variants, *, probability=False):
        self.shown = list(variants)
        return torch.stack([self.net(each, probability) for each in self.shown])


def case(generator, space=(3, 4)):
    outputs = [torch.randn(2, width, *space, generator=generator, dtype=torch.float64) for width in (5, 9)]
    outputs[1][:, 3] = outputs[1][:, 2]  # where both begin a cluster, one of these is empty
    return outputs, Scored(generator, space)


@every_rank
@pytest.mark.parametrize(("samples", "keep"), [(4, 0.5), (6, 0.2), (14, 0.7)])
def test_is_the_algorithm(space, samples, keep, generator):
    outputs, score = case(generator, space)
    found = tis(outputs, score, samples=samples, keep=keep, seed=2)
    expected = by_loops(outputs, score.net, samples=samples, keep=keep, seed=2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert len(score.shown) == samples
    assert all((each.flatten(1).sum(1) == max(1, int(keep * each[0].numel()))).all() for each in score.shown)


def test_more_clusters_than_channels_are_the_channels(generator):
    outputs, score = case(generator)
    many = tis(outputs, score, probability=False)
    assert len(score.shown) == 14
    means = torch.cat(outputs, 1).flatten(2)[0]
    chosen = {tuple(sorted(mean.topk(6).indices.tolist())) for mean in means}
    assert chosen == {tuple(each[0].flatten().nonzero().flatten().tolist()) for each in score.shown}
    assert not torch.allclose(many, tis(outputs, score))


def test_worked_example():
    # the channels choose {0, 1} and {1, 2}, which score 2 and 5
    outputs = [torch.tensor([[[3.0, 2, 1, 0], [0, 2, 3, 1]]])]
    found = tis(outputs, lambda shown, **_: torch.stack([2 + 3 * each[:, 2] for each in shown]))
    assert found.tolist() == [[2, 3.5, 5, 0]]


def test_a_batch_is_its_samples(generator):
    outputs, score = case(generator)
    together = tis(outputs, score, samples=4)
    for n in range(2):
        alone = tis([each[n : n + 1] for each in outputs], score, samples=4)
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-13, atol=1e-14)


class TalkingHeads(ByItself):
    """Heads are mixed after the softmax."""

    def forward(self, x):
        q, k, v = self.split(x)
        weights = (q @ k.transpose(-2, -1) / 2).softmax(dim=-1)
        heads = (weights + 0.5 * weights.flip(1)) @ v
        return x + self.proj(heads.transpose(1, 2).reshape(x.shape))


class Turned(Block):
    """Its attention has the patches in another order."""

    def forward(self, x):
        order = [0, *range(x.shape[1] - 1, 0, -1)]
        return super().forward(x[:, order])[:, order]


class Fewer(SmallViT):
    """The second block has two tokens less."""

    def forward(self, x):
        x = self.blocks[0](self.embed(x))
        return self.answer(self.blocks[1](x[:, :-2]))


def by_leaving_out(model, x, targets, samples):
    """The network with the tokens that a choice leaves out not there at all."""
    with torch.no_grad():
        tokens, outputs = model.embed(x), []
        for block in model.blocks:
            tokens = block(tokens)
            outputs.append(tokens[:, model.prefix :].mT.reshape(len(x), -1, *model.grid))

        def score(sample):
            def net(shown):
                there = torch.cat([torch.ones(model.prefix), shown.flatten()]) > 0
                left = model.embed(x[sample : sample + 1])[:, there]
                for block in model.blocks:
                    left = block(left)
                return model.answer(left)[0, targets[sample]]

            return net

        return torch.cat(
            [
                by_loops([each[n : n + 1] for each in outputs], score(n), samples=samples, keep=0.5)
                for n in range(len(x))
            ]
        )


@pytest.mark.parametrize(
    "options", [{"prefix": 1}, {"prefix": 2}, {"kind": ByItself}, {"pool": "attention", "prefix": 0}], ids=str
)
def test_hiding_tokens_is_leaving_them_out(options):
    model = small_vit(**options, blocks=3)
    x = pictures(model)
    found = whycam.explain(model, x, "tis", target=[1, 3], samples=5, probability=False)
    torch.testing.assert_close(found.maps.double(), by_leaving_out(model, x, [1, 3], 5), rtol=1e-6, atol=1e-7)
    assert found.maps.std() > 1e-3


def test_blocks_behind_the_layer_are_hidden_from_and_not_clustered():
    model = small_vit(blocks=3)
    x = pictures(model)
    early = whycam.explain(model, x, "tis", target=1, samples=5, layer="blocks.0")
    only = small_vit(blocks=3)
    outputs = only.blocks[0](only.embed(x))[:, 1:].mT.reshape(2, -1, 4, 3)
    seen = []
    tis([outputs], lambda variants, **_: seen.extend(variants) or torch.zeros(5, 2), samples=5)
    assert early.cost.forwards > 5
    assert (early.maps > 0).equal(torch.stack(seen).sum(0) > 0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pool": "mean", "prefix": 0}, "reads the tokens of its patches themselves"),
        ({"pool": "mean"}, "reads the tokens of its patches themselves"),
        ({"kind": TalkingHeads}, "mixes heads after its softmax"),
    ],
)
def test_where_tokens_cannot_be_hidden_that_is_said(options, reason):
    model = small_vit(**options)
    with pytest.raises(whycam.WhycamError, match=reason):
        whycam.explain(model, pictures(model), "tis", target=1, samples=3)


def test_where_another_attention_has_other_keys_that_is_said():
    model = nets.fixed(Fewer())
    with pytest.raises(whycam.WhycamError, match="among all of them"):
        whycam.explain(model, pictures(model), "tis", target=1, samples=3, layer="blocks.0")
    model = small_vit()
    model.blocks[1] = nets.fixed(Turned())
    with pytest.raises(whycam.WhycamError, match="among all of them"):
        whycam.explain(model, pictures(model), "tis", target=1, samples=3, layer="blocks.0")
