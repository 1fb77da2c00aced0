"""The steps that methods share, each against numpy or a number done by hand."""

import inspect
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from whycam.errors import WhycamError
from whycam.kit.arrays import (
    Making,
    apart,
    center_rows,
    channel_sum,
    largest_eigenpair,
    locations,
    making,
    merge_colors,
    noise_like,
    normalize,
    orient,
    pool,
    principal_component,
    resize,
    total,
    weighted_sum,
)

every_rank = pytest.mark.parametrize("space", [(7,), (5, 7), (2, 3, 4)], ids=["1d", "2d", "3d"])


@every_rank
def test_pool_and_total_cover_every_location(space, generator):
    maps = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    axes = tuple(range(2, maps.ndim))
    np.testing.assert_allclose(pool(maps), maps.numpy().mean(axes), atol=1e-14)
    np.testing.assert_allclose(total(maps), maps.numpy().sum(axes), atol=1e-13)


@every_rank
def test_weighted_sum_pairs_each_channel_with_its_weight(space, generator):
    maps = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    expected = np.stack([np.tensordot(weights[n].numpy(), maps[n].numpy(), 1) for n in range(2)])
    np.testing.assert_allclose(weighted_sum(weights, maps), expected, atol=1e-14)


def test_resize_aligns_pixel_centers():
    torch.testing.assert_close(resize(torch.tensor([[0.0, 4.0]]), (4,)), torch.tensor([[0.0, 1.0, 3.0, 4.0]]))
    torch.testing.assert_close(
        resize(torch.tensor([[[0.0, 4.0], [0.0, 4.0]]]), (1, 4)), torch.tensor([[[0.0, 1.0, 3.0, 4.0]]])
    )


@every_rank
def test_resize_keeps_a_constant_and_its_own_size(space, generator):
    maps = torch.full((2, *space), 0.7)
    assert resize(maps, [2 * side + 1 for side in space]).allclose(torch.tensor(0.7))
    assert resize(maps, space) is maps


@pytest.mark.parametrize(
    ("how", "expected"),
    [("none", [-2, 0, 4]), ("max", [0, 0, 1]), ("minmax", [0, 1 / 3, 1]), ("signed", [-0.5, 0, 1])],
)
def test_normalize_by_hand(how, expected):
    maps = torch.tensor([[-2.0, 0.0, 4.0]])
    torch.testing.assert_close(normalize(maps, how), torch.tensor([expected], dtype=torch.float32))


@every_rank
def test_trap_n4_each_map_is_scaled_by_itself(space, generator):
    maps = torch.randn(2, *space, generator=generator)
    for how in ("max", "minmax", "signed"):
        alone = torch.cat([normalize(maps[:1], how), normalize(100 * maps[1:], how)])
        torch.testing.assert_close(normalize(maps, how), alone)


def test_trap_n2_a_zero_map_stays_zero_and_a_constant_one_is_full():
    zero, constant = torch.zeros(1, 3, 3), torch.full((1, 3, 3), 0.2)
    for how in ("max", "minmax", "signed"):
        assert normalize(zero, how).eq(0).all()
    assert normalize(constant, "max").eq(1).all()
    assert normalize(constant, "signed").eq(1).all()
    assert normalize(constant, "minmax").eq(0).all()
    assert normalize(-constant, "max").eq(0).all()


@pytest.mark.parametrize("scale", [1e-9, 1e-30])
def test_trap_n3_a_faint_map_gets_the_same_picture(scale):
    maps = torch.tensor([[-2.0, 0.0, 4.0]])
    for how in ("max", "minmax", "signed"):
        torch.testing.assert_close(normalize(scale * maps, how), normalize(maps, how))


def test_normalize_names_what_it_knows():
    with pytest.raises(ValueError, match="normalize must be 'max'"):
        inspect.unwrap(normalize)(torch.ones(1, 3), "percentile")


def test_merge_colors_by_hand():
    maps = torch.tensor([[[3.0], [-4.0]]])
    assert [merge_colors(maps, how).item() for how in ("sum", "max", "norm")] == [-1, 4, 5]
    with pytest.raises(WhycamError, match="colors must be 'sum', 'max' or 'norm', not 'mean'"):
        inspect.unwrap(merge_colors)(maps, "mean")


@every_rank
def test_locations_are_rows_of_channels_in_raster_order(space, generator):
    maps = torch.randn(2, 3, *space, generator=generator)
    rows = locations(maps)
    assert rows.dtype == torch.float64
    for index, at in enumerate(np.ndindex(*space)):
        assert rows[:, index].equal(maps[(slice(None), slice(None), *at)].double())


def test_center_rows_subtracts_the_mean_row(generator):
    rows = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    np.testing.assert_allclose(center_rows(rows), rows.numpy() - rows.numpy().mean(1, keepdims=True), atol=1e-14)


def test_center_rows_of_equal_rows_is_exactly_zero():
    rows = torch.tensor([0.1, 1e9, -0.7]).expand(1, 49, 3)
    assert center_rows(rows).eq(0).all()


def symmetric(generator, size=5):
    matrix = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    return matrix + matrix.mT


def test_largest_eigenpair_is_the_largest_not_the_largest_magnitude(generator):
    matrices = symmetric(generator) - 3 * torch.eye(5, dtype=torch.float64)
    matrices[0] += 20 * torch.eye(5, dtype=torch.float64)
    values, vectors = largest_eigenpair(matrices)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrices.numpy())[:, -1], atol=1e-12)
    torch.testing.assert_close((matrices @ vectors[..., None])[..., 0], values[:, None] * vectors)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_largest_eigenvalue_within_rounding_of_zero_is_zero(generator):
    away = torch.eye(6, dtype=torch.float64) - 1 / 6
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    values, _ = largest_eigenpair(-(basis @ away @ basis.mT)[None])
    assert values.item() == 0


def test_largest_eigenpair_of_a_matrix_that_is_not_finite_is_nan_and_leaves_the_others_alone(generator):
    matrices = symmetric(generator)
    expected = largest_eigenpair(matrices)
    matrices[1, 0, 2] = matrices[1, 2, 0] = torch.inf
    values, vectors = largest_eigenpair(matrices)
    assert values[1].isnan()
    assert vectors[1].isnan().all()
    torch.testing.assert_close(values[[0, 2]], expected[0][[0, 2]])
    torch.testing.assert_close(vectors[[0, 2]].abs(), expected[1][[0, 2]].abs())


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 3), (3, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_principal_component_is_that_of_the_svd(shape, scale, generator):
    rows = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    expected = np.stack([matrix @ np.linalg.svd(matrix)[2][0] for matrix in rows.numpy()])
    found = principal_component(rows * scale) / scale
    np.testing.assert_allclose(found.abs().numpy(), np.abs(expected), rtol=1e-9)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_principal_component_of_zeros_is_zero(shape):
    assert principal_component(torch.zeros(2, *shape)).eq(0).all()


def test_orient_turns_round_what_disagrees():
    components = torch.tensor([[1.0, -2.0], [1.0, -2.0], [1.0, -2.0]])
    evidence = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    assert orient(components, evidence).equal(torch.tensor([[1.0, -2.0], [-1.0, 2.0], [1.0, -2.0]]))


def first_component(products):
    """Each sample's locations x channels, less the mean over locations, on its first right-singular vector."""
    maps = []
    for sample in products.numpy().astype(np.float64):
        rows = np.stack([sample[(slice(None), *at)] for at in np.ndindex(*sample.shape[1:])])
        rows = rows - rows.mean(0)
        component = rows @ np.linalg.svd(rows)[2][0]
        component = -component if component @ rows.sum(1) < 0 else component
        maps.append(component.reshape(sample.shape[1:]))
    return np.stack(maps)


@every_rank
@pytest.mark.parametrize("channels", [3, 40])
def test_channels_are_summed_or_projected_on_their_first_component(space, channels, generator):
    products = torch.randn(3, channels, *space, generator=generator, dtype=torch.float64)
    plain = products.numpy().sum(1)
    np.testing.assert_allclose(channel_sum(products), plain, atol=1e-13)
    with making(Making(component=True)) as components:
        assert not components.summed
        smooth = channel_sum(products)
        assert components.summed
    np.testing.assert_allclose(smooth, first_component(products), atol=1e-10)
    assert ((smooth * torch.from_numpy(plain)).flatten(1).sum(1) > 0).all()
    np.testing.assert_allclose(channel_sum(products), plain, atol=1e-13)


@every_rank
def test_a_weighted_sum_is_a_sum_of_channels_unless_it_is_not_the_last(space, generator):
    maps = torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    plain = weighted_sum(weights, maps)
    products = torch.stack([torch.stack([weights[n, k] * maps[n, k] for k in range(3)]) for n in range(2)])
    with making(Making(component=True)) as components:
        torch.testing.assert_close(weighted_sum(weights, maps, final=False), plain)
        assert not components.summed
        np.testing.assert_allclose(weighted_sum(weights, maps), first_component(products), atol=1e-10)
        assert components.summed


def test_one_pattern_in_all_channels_keeps_its_shape_by_component():
    pattern = torch.tensor([[1.0, 5.0], [0.0, 2.0]])  # of mean 2
    with making(Making(component=True)):
        # shares 3 and -4 of a pattern: their sum is its negative, their component has length 5
        found = channel_sum(torch.stack([3 * pattern, -4 * pattern])[None])
        torch.testing.assert_close(found, -5 * (pattern - 2)[None])
        assert channel_sum(torch.full((1, 2, 3, 3), 7.0)).eq(0).all()
        assert channel_sum(torch.ones(1, 2, 1)).eq(0).all()


def test_blocks_by_component_end_however_they_end_and_count_by_themselves():
    products = torch.arange(8.0).reshape(1, 2, 4)
    with pytest.raises(KeyError), making(Making(component=True)):
        raise KeyError
    with making(Making(component=True)) as outer:
        with making(Making(component=True)) as inner:
            channel_sum(products)
        assert (inner.summed, outer.summed) == (True, False)
        smooth = channel_sum(products)
    assert torch.equal(channel_sum(products), products.sum(1))
    assert not torch.equal(smooth, products.sum(1))


def test_threads_have_blocks_of_their_own():
    products = torch.arange(8.0).reshape(1, 2, 4)
    with making(Making(component=True)), ThreadPoolExecutor(1) as threads:
        assert torch.equal(threads.submit(channel_sum, products).result(), products.sum(1))


def test_how_far_apart_is_in_parts_of_the_largest_value():
    expected = torch.tensor([1.0, -4.0, 0.0])
    assert apart(expected + torch.tensor([0.0, 0.0, 0.5]), expected) == 0.125
    assert apart(expected, expected) == apart(expected[:0], expected[:0]) == apart(torch.zeros(2), torch.zeros(2)) == 0
    assert apart(expected[:2], expected) == math.inf
    assert apart(torch.ones(2), torch.zeros(2)) == math.inf
    assert math.isnan(apart(torch.tensor([1.0, math.nan]), torch.ones(2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_noise_is_as_wide_as_the_values_and_the_same_every_time(dtype):
    values = (3 * torch.randn(40, 50) + 7).to(dtype)
    state = torch.get_rng_state()
    made = noise_like(values)
    assert torch.equal(torch.get_rng_state(), state)
    assert made.dtype == dtype
    assert float(made.double().std()) == pytest.approx(float(values.double().std()), rel=0.05)
    assert abs(float(made.double().mean())) < 0.3
    assert torch.equal(made, noise_like(values))
    assert not torch.equal(made, noise_like(values, seed=1))
    for odd in (torch.full((40, 50), 5.0), torch.full((40, 50), math.nan)):
        assert float(noise_like(odd).std()) == pytest.approx(1, rel=0.05)
