"""Between a layer's axes and those of every method."""

import pytest
import torch

from whycam.errors import WhycamError
from whycam.network.layouts import ChannelsFirst, ChannelsLast, Tokens, infer_layout

FIRST, LAST = ChannelsFirst(), ChannelsLast()
SHAPES = [
    # output, inputs, layout
    ((2, 64, 7, 7), (2, 3, 224, 224), FIRST),
    ((2, 7, 7, 768), (2, 3, 224, 224), LAST),
    ((2, 8, 8, 8), (2, 3, 256, 256), FIRST),  # cannot be told apart: PyTorch's convention
    ((2, 768, 7, 10), (2, 3, 224, 320), FIRST),
    ((2, 7, 10, 768), (2, 3, 224, 320), LAST),
    ((2, 8, 11, 96), (2, 3, 250, 333), LAST),
    ((2, 16, 2, 100), (2, 1, 64, 100), FIRST),  # pools the frequencies and keeps the times
    ((2, 512, 1, 26), (2, 1, 32, 100), FIRST),
    ((2, 64, 2, 25), (2, 3, 32, 100), FIRST),
    ((2, 32, 16, 1), (2, 3, 64, 64), FIRST),
    ((2, 64, 50), (2, 3, 100), FIRST),
    ((2, 256, 50), (2, 3, 100), FIRST),
    ((2, 50, 256), (2, 3, 100), LAST),
    ((2, 64, 4, 6, 6), (2, 1, 16, 24, 24), FIRST),
    ((2, 4, 6, 6, 64), (2, 1, 16, 24, 24), LAST),
    ((2, 196, 768), (2, 3, 224, 224), Tokens((14, 14), 0)),
    ((2, 197, 768), (2, 3, 224, 224), Tokens((14, 14), 1)),
    ((2, 198, 768), (2, 3, 224, 224), Tokens((14, 14), 2)),
    ((2, 201, 768), (2, 3, 224, 224), Tokens((14, 14), 5)),
    ((2, 204, 768), (2, 3, 224, 224), Tokens((14, 14), 8)),
    ((2, 1 + 14 * 20, 768), (2, 3, 224, 320), Tokens((14, 20), 1)),
    ((2, 1 + 4 * 6 * 6, 32), (2, 1, 16, 24, 24), Tokens((4, 6, 6), 1)),
    ((2, 1 + 8 * 7 * 7, 32), (2, 3, 16, 224, 224), Tokens((8, 7, 7), 1)),  # frames thinned by 2, pixels by 32
    ((2, 1 + 4 * 2 * 2, 32), (2, 3, 8, 64, 64), Tokens((4, 2, 2), 1)),
    ((2, 1 + 2 * 5, 32), (2, 3, 32, 95), Tokens((2, 5), 1)),  # 5.9 patches: what is over is dropped
    ((2, 1 + 3 * 6, 32), (2, 3, 33, 96), Tokens((3, 6), 1)),  # 2.1 patches: padded
    ((2, 197, 32), (2, 3, 96, 160), Tokens((14, 14), 1)),  # resized to a square inside
    ((2, 16, 32), (2, 3, 96, 160), Tokens((3, 5), 1)),  # and not 4 x 4, although 16 is a square
]


@pytest.mark.parametrize(("output", "inputs", "layout"), SHAPES, ids=str)
def test_axes_are_read_by_the_inputs_proportions(output, inputs, layout):
    assert infer_layout(output, inputs) == layout


@pytest.mark.parametrize(
    ("output", "inputs"),
    [
        ((2, 512), (2, 3, 224, 224)),
        ((2, 512, 1, 1), (2, 3, 224, 224)),
        ((2, 1, 1, 512), (2, 3, 224, 224)),
        ((2, 203, 768), (2, 3, 224, 224)),
        ((2, 1, 768), (2, 3, 224, 224)),
        ((2, 12, 197, 197), (2, 3, 224)),
        ((2,), (2, 3, 224, 224)),
        ((), (2, 3, 224, 224)),
        ((2, 0, 768), (2, 3, 224, 224)),
        ((2, 5, 7), (2, 4)),
    ],
    ids=str,
)
def test_what_has_no_spatial_axes_is_refused_with_both_shapes(output, inputs):
    with pytest.raises(WhycamError) as caught:
        infer_layout(output, inputs, "layer 'x'")
    message = str(caught.value)
    assert message.startswith("layer 'x' has no spatial axes")
    assert str(output) in message
    assert str(inputs) in message


@pytest.mark.parametrize(
    ("layout", "shape", "grid"),
    [
        (FIRST, (2, 5, 3, 4), (3, 4)),
        (FIRST, (2, 5, 7), (7,)),
        (LAST, (2, 3, 4, 5), (3, 4)),
        (LAST, (2, 2, 3, 4, 5), (2, 3, 4)),
        (Tokens((3, 4), 0), (2, 12, 5), (3, 4)),
        (Tokens((3, 4), 2), (2, 14, 5), (3, 4)),
        (Tokens((2, 3, 4), 1), (2, 25, 5), (2, 3, 4)),
        (Tokens((3, 4), 1, 2), (2, 15, 5), (3, 4)),
        (Tokens((4, 12), 0, 0, 2), (2, 48, 5), (4, 12)),
        (Tokens((3, 2, 4), 0, 0, 1), (2, 24, 5), (3, 2, 4)),
    ],
    ids=str,
)
def test_maps_go_there_and_back(layout, shape, grid, generator):
    output = torch.randn(shape, generator=generator)
    maps = layout.to_maps(output)
    assert maps.shape == (2, 5, *grid)
    assert layout.grid(shape) == grid
    assert torch.equal(layout.from_maps(maps, output), output)


def test_unrolled_tokens_lie_where_they_were_taken_from():
    # by hand: all first corners of the cells of 2 x 2, row by row, then all second ones
    order = [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]
    output = torch.tensor(order, dtype=torch.float32).reshape(1, 16, 1)
    assert Tokens((4, 4), 0, 0, 1).to_maps(output).flatten().tolist() == list(range(16))
    # of a 4 x 4 grid the cells of cells are one, so taking it apart again changes nothing
    assert Tokens((4, 4), 0, 0, 2).to_maps(output).flatten().tolist() == list(range(16))


def test_each_location_keeps_its_channels():
    output = torch.arange(2 * 14 * 5.0).reshape(2, 14, 5)
    maps = Tokens((3, 4), 2).to_maps(output)
    for row in range(3):
        for column in range(4):
            assert torch.equal(maps[:, :, row, column], output[:, 2 + 4 * row + column])
    last = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(LAST.to_maps(last)[:, :, 1, 2], last[:, 1, 2])


def test_more_maps_than_outputs_share_the_prefix(generator):
    output, maps = torch.randn(1, 14, 5, generator=generator), torch.randn(6, 5, 3, 4, generator=generator)
    made = Tokens((3, 4), 2).from_maps(maps, output)
    assert torch.equal(made[:, :2], output[:, :2].expand(6, -1, -1))
    assert torch.equal(Tokens((3, 4), 2).to_maps(made), maps)


def test_layouts_say_what_they_are():
    found = (FIRST, LAST, Tokens((14, 14), 1), Tokens((8, 8), 1, 10), Tokens((56, 56), 0, 0, 3))
    assert list(map(str, found)) == [
        "channels first",
        "channels last",
        "tokens on a grid of 14x14 after 1",
        "tokens on a grid of 8x8 after 1 and before 10",
        "tokens on a grid of 56x56 after 0, unrolled 3x",
    ]
