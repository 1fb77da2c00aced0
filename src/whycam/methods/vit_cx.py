import torch
from jaxtyping import Float
from torch import Tensor

from whycam.kit.arrays import lazily, noise, precise, resize
from whycam.kit.masks import flat_channels, to_unit
from whycam.kit.options import NonNegative
from whycam.kit.quantities import Result, Score
from whycam.kit.registry import method


@method("ViT-CX", paper="arXiv:2211.03064")
def vit_cx(
    activations: Float[Tensor, "batch channel *spatial"],
    inputs: Float[Tensor, "batch color *space"],
    score: Score,
    *,
    distance: NonNegative = 0.1,
    noise_level: NonNegative = 0.1,
    probability: bool = True,
    seed: int = 0,
) -> Result:
    """Average masks made of alike channels, each times the score of what it shows, less what noise alone did to it.

    Each channel is resized to the input and scaled to [0, 1]. Channels whose cosine distance is below `distance` form
    clusters (complete linkage: all pairs of a cluster are that near), and a cluster's sum, scaled again, is a mask m.
    The input shown through it has normal noise of deviation `noise_level` times 1 - m where it hides; the score of the
    whole input under the same noise is subtracted and that of the input itself added. The map at each pixel is the mean
    of these scores, weighted by how much each mask shows of the pixel, divided by the number of masks, as in the
    authors' code. In units of the score, a probability unless `probability=False`, over the number of masks,
    `values["masks"]`.

    What speaks for the target is where the map is high, not where it is positive. The authors take the norm before the
    last block's attention as the layer. Two runs for each mask and one more.

    A channel that is flat is left out (NaN in the authors' code), and a pixel that no mask shows is 0. Noise depends on
    the seed and the number of the mask alone, the same for every sample.
    """
    size = inputs.shape[2:]
    masks = [_masks(each, size, distance) for each in activations]
    most = max(map(len, masks))

    def mask(number: int) -> Tensor:
        shows = [to_unit(resize(each[number : number + 1], size)).sum(0) for each in masks]  # 0 where there are fewer
        return torch.stack(shows).to(inputs)

    def variant(number: int) -> Tensor:
        if number == 2 * most:
            return inputs
        shows = mask(number // 2)[:, None]
        drawn = noise_level * noise(inputs.shape[1:], seed, number // 2).to(inputs) * (1 - shows)
        return (inputs if number % 2 else inputs * shows) + drawn

    scores = score(lazily(variant, range(2 * most + 1)), probability=probability).to(inputs)
    effects = scores[:-1:2] - scores[1::2] + scores[-1]
    maps, coverage = torch.zeros_like(inputs[:, 0]), torch.zeros_like(inputs[:, 0])
    for number, effect in enumerate(effects):
        shows = mask(number)
        maps += effect.reshape(-1, *[1] * len(size)) * shows
        coverage += shows
    counts = inputs.new_tensor([len(each) for each in masks])
    divisor = coverage * counts.reshape(-1, *[1] * len(size))
    return Result(maps / divisor.where(divisor != 0, divisor.new_ones(())), values={"masks": counts})


def _masks(
    activations: Float[Tensor, "channel *spatial"], size: tuple[int, ...], distance: float
) -> Float[Tensor, "mask *spatial"]:
    """The sums of each cluster's channels, which become masks when they are resized and scaled."""
    maps = precise(activations[~flat_channels(activations[None])[0]])
    # one by one: all channels at the input's size are more than memory holds
    edges = [torch.stack(resize(each[None], size).aminmax()) for each in maps]
    low, high = (edge.reshape(-1, *[1] * len(size)) for edge in torch.stack([maps.new_zeros(2), *edges])[1:].T)
    maps = (maps - low) / (high - low)
    clusters = _clusters(1 - _cosines(maps, size), distance)
    return torch.stack([maps[members].sum(0) for members in clusters]) if clusters else maps


def _cosines(maps: Float[Tensor, "channel *spatial"], size: tuple[int, ...]) -> Float[Tensor, "channel channel"]:
    """The cosine of each two maps as they are when resized, which is linear along each axis by itself."""
    mixed = maps
    for axis, length in enumerate(size, 1):
        steps = resize(torch.eye(maps.shape[axis]).to(maps), (length,))
        mixed = (mixed.movedim(axis, -1) @ (steps @ steps.mT)).movedim(-1, axis)
    products = mixed.flatten(1) @ maps.flatten(1).mT
    lengths = products.diagonal().sqrt()
    return products / lengths / lengths[:, None]


def _clusters(distances: Float[Tensor, "channel channel"], limit: float) -> list[list[int]]:
    """Complete linkage: the two nearest clusters are joined while all their pairs are nearer than the limit.

    In the order of their first channels.
    """
    clusters = {number: [number] for number in range(len(distances))}
    apart = distances.clone()
    apart.fill_diagonal_(torch.inf)
    while len(clusters) > 1:
        one, other = sorted(divmod(int(apart.argmin()), len(apart)))
        if not apart[one, other] < limit:
            break
        clusters[one] += clusters.pop(other)
        apart[one] = apart[:, one] = torch.maximum(apart[one], apart[other])
        apart[other] = apart[:, other] = torch.inf
    return list(clusters.values())
