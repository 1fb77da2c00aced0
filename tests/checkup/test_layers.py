"""What there is to choose from, and the README's table of it."""

import runpy
from pathlib import Path

import nets
import torch
from torch import nn

import whycam

ROOT = Path(__file__).parents[2]


def test_the_readmes_table_is_that_of_the_registry(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    readme = (ROOT / "README.md").read_text()
    assert readme == generate["with_table"](readme), "run python docs/generate.py"
    assert "| `grad_cam` | Grad-CAM | yes |" in readme


def test_every_method_has_what_a_reader_needs():
    for method in whycam.list_methods():
        assert method.title, method.name
        assert method.paper, method.name
        assert method.summary.endswith((".", ";")), method.name


def test_layers_are_listed_in_order_with_the_chosen_ones_marked():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2),
    ).eval()  # fmt: skip
    rows = whycam.layers(model, torch.rand(2, 3, 16, 8))
    assert [row.name for row in rows] == ["0", "1", "2", "3"]
    assert [row.grid for row in rows] == [(8, 4), (8, 4), (4, 2), (4, 2)]
    assert rows[2].stride == (4.0, 4.0)
    assert rows[2].chosen_for == ("Grad-CAM, Guided Grad-CAM, Integrated Grad-CAM, SESS and ShapleyCAM",)
    assert rows[3].chosen_for == ("every other method",)
    assert not rows[0].chosen_for


def test_how_it_is_known_where_positions_lie():
    """An image of channels in the input's proportions has its places; one that is squeezed is looked at."""
    squeezed = nets.plain()
    squeezed.conv2 = nn.Conv2d(6, 8, 3, stride=(1, 4), padding=1).double()
    by_name = {each.name: each for each in whycam.layers(squeezed, nets.images(1, side=16))}
    assert by_name["conv1"].location == "by construction"
    assert by_name["conv2"].location == "verified"
    assert by_name["conv2"].stride == (1.0, 4.0)
