"""What every method that is a function of measured tensors promises, whatever its formula."""

import pytest
import torch

from whycam.kit.quantities import Result
from whycam.kit.registry import methods

SPACES = [(9,), (4, 5), (2, 3, 4)]
MEASURED = {"activations", "gradients", "head_weights", "guided_gradients", "inputs", "input_gradients"}

TABLE = {name: each for name, each in methods().items() if each.needs <= MEASURED}
every_method = pytest.mark.parametrize("method", TABLE.values(), ids=TABLE)
at_the_layer = {name: each for name, each in TABLE.items() if "guided_gradients" not in each.needs}
BLOCKS = {"seg_xres_cam"}  # pools neighbors, so their order matters
every_method_at_the_layer = pytest.mark.parametrize("method", at_the_layer.values(), ids=at_the_layer)
by_sample = {name: each for name, each in TABLE.items() if not each.couples}
every_method_by_sample = pytest.mark.parametrize("method", by_sample.values(), ids=by_sample)
every_rank = pytest.mark.parametrize("space", SPACES, ids=["1d", "2d", "3d"])


def measure(method, space, generator, dtype=torch.float64):
    """Quantities of three samples, as a ReLU layer under some network would give them."""
    shapes = {"head_weights": (3, 6)} | dict.fromkeys(("activations", "gradients"), (3, 6, *space))
    quantities = {
        name: torch.randn(shapes.get(name, (3, 2, *(2 * side for side in space))), generator=generator).to(dtype)
        for name in sorted(method.needs)
    }
    if "activations" in quantities:
        quantities["activations"] = quantities["activations"].relu()
    return quantities


def maps_of(method, **quantities):
    """The maps, whether or not there is more to say."""
    made = method.function(**quantities)
    return made.maps if isinstance(made, Result) else made


@every_method_by_sample
@every_rank
def test_a_batch_is_its_samples(method, space, generator):
    quantities = measure(method, space, generator)
    together = maps_of(method, **quantities)
    for n in range(3):
        alone = maps_of(method, **{name: value[n : n + 1] for name, value in quantities.items()})
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-10, atol=1e-12)


@every_method
@every_rank
def test_the_map_lies_on_the_layers_grid_or_the_inputs(method, space, generator):
    maps = maps_of(method, **measure(method, space, generator))
    on_input = "guided_gradients" in method.needs
    assert maps.shape == (3, *(2 * side if on_input else side for side in space))
    assert maps.isfinite().all()
    assert maps.any()


@every_method
def test_what_was_measured_is_left_as_it_was(method, generator):
    quantities = measure(method, (4, 5), generator)
    copies = {name: value.clone() for name, value in quantities.items()}
    maps_of(method, **quantities)
    for name, value in quantities.items():
        assert value.equal(copies[name])


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision_is_that_of_the_quantities(method, dtype, generator):
    quantities = measure(method, (4, 5), generator, dtype)
    maps = maps_of(method, **quantities)
    exact = maps_of(method, **{name: value.double() for name, value in quantities.items()})
    assert maps.dtype == dtype
    tolerance = {torch.float16: 0.02, torch.bfloat16: 0.1}.get(dtype, 1e-5)
    torch.testing.assert_close(maps.double(), exact, rtol=tolerance, atol=tolerance)


@every_method
def test_a_sample_that_is_not_finite_shows_and_stays_alone(method, generator):
    quantities = measure(method, (4, 5), generator)
    expected = maps_of(method, **{name: value[[0, 2]] for name, value in quantities.items()})
    for name in quantities:
        spoilt = {each: value.clone() for each, value in quantities.items()}
        spoilt[name][1].view(-1)[1] = torch.nan
        maps = maps_of(method, **spoilt)
        assert maps[1].isnan().any(), name
        torch.testing.assert_close(maps[[0, 2]], expected)


@every_method
def test_zeros_give_zeros(method, generator):
    quantities = measure(method, (4, 5), generator)
    assert maps_of(method, **{name: torch.zeros_like(value) for name, value in quantities.items()}).eq(0).all()


@every_method
def test_memory_layout_makes_no_difference(method, generator):
    quantities = measure(method, (4, 5), generator)
    relaid = {
        name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in quantities.items()
    }
    torch.testing.assert_close(maps_of(method, **relaid), maps_of(method, **quantities), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", [each for name, each in at_the_layer.items() if name not in BLOCKS])
def test_order_of_locations_does_not_matter(method, generator):
    quantities = measure(method, (12,), generator)
    order = torch.randperm(12, generator=generator)
    shuffled = {name: value[..., order] if value.ndim == 3 else value for name, value in quantities.items()}
    torch.testing.assert_close(
        maps_of(method, **shuffled), maps_of(method, **quantities)[:, order], rtol=1e-8, atol=1e-10
    )
