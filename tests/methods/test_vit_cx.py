"""ViT-CX against the paper's steps written out channel by channel in numpy, clusters by looking at every pair."""

import masks_by_hand as by_hand
import numpy as np
import pytest
import torch

from whycam.methods.vit_cx import vit_cx

every_rank = pytest.mark.parametrize(
    ("space", "size"), [((4,), (9,)), ((2, 3), (5, 7)), ((2, 1, 2), (3, 4, 2))], ids=["1d", "2d", "3d"]
)


def clustered(rows, limit):
    """Complete linkage: of all pairs of clusters the nearest, by their two members that are farthest apart."""

    def far(one, other):
        cosines = [rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]) for i in one for j in other]
        return 1 - min(cosines)

    clusters = [[number] for number in range(len(rows))]
    while len(clusters) > 1:
        pairs = [(far(a, b), i, j) for i, a in enumerate(clusters) for j, b in enumerate(clusters) if i < j]
        away, i, j = min(pairs)
        if away >= limit:
            break
        clusters[i] += clusters.pop(j)
    return clusters


def by_loops(activations, inputs, net, *, limit, level=0.1, seed=0, probability=True):
    from whycam.kit.arrays import noise  # the draws themselves, which no paper fixes

    size, maps, counts = inputs.shape[2:], [], []
    for n in range(len(inputs)):
        picture = inputs[n].numpy()
        masks = [by_hand.unit(by_hand.resized(channel, size)) for channel in activations[n].numpy()]
        masks = [mask for mask in masks if mask.any()]
        clusters = clustered([mask.ravel() for mask in masks], limit)
        summed, coverage = np.zeros(size), np.zeros(size)
        whole = by_hand.of_one(net, picture, probability=probability)
        # the order of the clusters decides which noise each has: by their first channels
        for number, members in enumerate(sorted(clusters, key=min)):
            mask = by_hand.unit(sum(masks[member] for member in members))
            drawn = level * noise(inputs.shape[1:], seed, number).numpy() * (1 - mask)
            masked = by_hand.of_one(net, picture * mask + drawn, probability=probability)
            noisy = by_hand.of_one(net, picture + drawn, probability=probability)
            summed += (masked - noisy + whole) * mask
            coverage += mask
        shown = np.where(coverage > 0, coverage, 1)
        maps.append(summed / shown / len(clusters))
        counts.append(len(clusters))
    return torch.from_numpy(np.stack(maps)), counts


def case(generator, space=(2, 3), size=(5, 7), channels=9):
    activations = torch.randn(3, channels, *space, generator=generator, dtype=torch.float64)
    activations[:, 1] = 2 * activations[:, 0] + 3  # of one cluster, whatever the scale
    inputs = torch.randn(3, 2, *size, generator=generator, dtype=torch.float64)
    return activations, inputs, by_hand.network(generator, (2, *size), strength=0.1)


@every_rank
@pytest.mark.parametrize("limit", [0.1, 0.25, 2.0])
def test_is_the_algorithm(space, size, limit, generator):
    activations, inputs, net = case(generator, space, size)
    activations[1, 2:5] = 0.7
    found = vit_cx(activations, inputs, by_hand.Scored(net), distance=limit)
    expected, counts = by_loops(activations, inputs, net, limit=limit)
    torch.testing.assert_close(found.maps, expected, rtol=1e-12, atol=1e-13)
    assert found.values["masks"].tolist() == counts
    assert expected.any()


def test_target_noise_and_seed(generator):
    activations, inputs, net = case(generator)
    asked = {"limit": 0.2, "level": 0.5, "seed": 3, "probability": False}
    expected, _ = by_loops(activations, inputs, net, **asked)
    score = by_hand.Scored(net)
    found = vit_cx(activations, inputs, score, distance=0.2, noise_level=0.5, seed=3, probability=False)
    torch.testing.assert_close(found.maps, expected, rtol=1e-12, atol=1e-13)
    assert score.runs == 2 * max(found.values["masks"]) + 1


def test_clusters_are_those_of_a_known_matrix():
    from whycam.methods.vit_cx import _clusters

    apart = torch.tensor([[0.0, 1, 9, 8], [1, 0, 2, 9], [9, 2, 0, 3], [8, 9, 3, 0]])
    assert _clusters(apart, 2.5) == [[0, 1], [2], [3]]  # 1 and 2 are near, 0 and 2 are not
    assert _clusters(apart, 3.5) == [[0, 1], [2, 3]]
    assert _clusters(apart, 9.5) == [[0, 1, 2, 3]]


def test_worked_example():
    # masks [0, 1] and [1, 0] with no noise: the score of what each shows stands where it shows it, over two masks
    activations, inputs = torch.tensor([[[0.0, 2.0], [4.0, 0.0]]]), torch.tensor([[[3.0, 5.0]]])
    score = by_hand.Scored(lambda x: x[:, 0, 0] + 10 * x[:, 0, 1])
    found = vit_cx(activations, inputs, score, noise_level=0.0, probability=False)
    assert found.maps.tolist() == [[1.5, 25.0]]


def test_where_every_channel_is_flat_there_is_no_map():
    found = vit_cx(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 8, 8), by_hand.Scored(lambda x: x.flatten(1).sum(1)))
    assert not found.maps.any()
    assert found.values["masks"].tolist() == [0, 0]


def test_a_batch_is_its_samples(generator):
    activations, inputs, net = case(generator)
    activations[1] = activations[1, :1]  # one cluster, where the others have several
    together = vit_cx(activations, inputs, by_hand.Scored(net), distance=0.2)
    assert together.values["masks"][1] == 1 < together.values["masks"][0]
    for n in range(3):
        each = slice(n, n + 1)
        alone = vit_cx(activations[each], inputs[each], by_hand.Scored(net), distance=0.2)
        torch.testing.assert_close(together.maps[each], alone.maps, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_is_kept_and_nothing_changed(dtype, generator):
    activations, inputs, net = case(generator)
    activations, inputs = activations.to(dtype), inputs.to(dtype)
    before = activations.clone(), inputs.clone()
    assert vit_cx(activations, inputs, by_hand.Scored(net)).maps.dtype == dtype
    assert torch.equal(activations, before[0])
    assert torch.equal(inputs, before[1])
