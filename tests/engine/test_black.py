"""`baseline="black"`: what is hidden is what a black pixel of a photo becomes, whatever normalizes it."""

import numpy as np
import pytest
import torch
from torch import nn

import whycam
from whycam.errors import OptionError
from whycam.kit.masks import stand_in
from whycam.kit.registry import methods

MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)
PREPARE = whycam.Preprocess((12, 12), resize="none", mean=MEAN, std=STD)
BLACK = torch.tensor([-2.0, -0.5, -1.0], dtype=torch.float64).reshape(1, 3, 1, 1)
MASKING = sorted(name for name, method in methods().items() if "baseline" in method.options)
FEW = {"samples": 3, "steps": 2}


def as_function(image):
    """The same by a function that says nothing of itself."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255
    return (pixels - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid(), nn.Conv2d(4, 4, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    return made.double().eval()


@pytest.fixture
def photo():
    return np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def options_of(name):
    return {each: FEW[each] for each in methods()[name].options if each in FEW}


def test_it_is_a_window_painted_on_the_photo(net, photo):
    found = whycam.explain(
        net, photo, "occlusion", preprocess=PREPARE, target=1, window=4, stride=4, baseline="black", probability=False
    )
    with torch.no_grad():
        for row in range(0, 12, 4):
            for column in range(0, 12, 4):
                painted = photo.copy()
                painted[row : row + 4, column : column + 4] = 0
                drop = net(as_function(photo)[None])[0, 1] - net(as_function(painted)[None])[0, 1]
                torch.testing.assert_close(
                    found.maps[0, row : row + 4, column : column + 4].double(), drop.expand(4, 4), atol=1e-6, rtol=1e-5
                )


@pytest.mark.parametrize("prepare", [PREPARE, as_function], ids=["Preprocess", "function"])
@pytest.mark.parametrize("name", MASKING)
def test_every_masking_method_takes_it(net, photo, name, prepare):
    def maps(baseline):
        return whycam.explain(net, photo, name, preprocess=prepare, target=1, baseline=baseline, **options_of(name))

    found = maps("black")
    torch.testing.assert_close(found.maps, maps(BLACK).maps)
    assert not torch.allclose(found.maps, maps("zero").maps)
    assert found.options["baseline"] == "black"


@pytest.mark.parametrize("prepare", [PREPARE, as_function], ids=["Preprocess", "function"])
def test_a_ready_batch_is_normalized_as_the_models_photos_are(net, photo, prepare):
    ready = torch.stack([as_function(photo)] * 2)
    found = whycam.Explainer(net, preprocess=prepare).explain(ready, "occlusion", target=0, baseline="black")
    expected = whycam.explain(net, ready, "occlusion", target=0, baseline=BLACK)
    torch.testing.assert_close(found.maps, expected.maps)


def test_channels_in_another_order(net, photo):
    prepare = whycam.Preprocess((12, 12), resize="none", mean=MEAN, std=STD, channels="bgr")
    found = whycam.explain(net, photo, "occlusion", preprocess=prepare, target=0, baseline="black")
    ready = as_function(photo[..., ::-1].copy())[None]  # mean and std are those of the input's channels
    expected = whycam.explain(net, ready, "occlusion", target=0, baseline=BLACK)
    torch.testing.assert_close(found.maps, expected.maps)


@pytest.mark.parametrize("name", MASKING)
def test_without_preprocessing_nobody_guesses(net, photo, name):
    with pytest.raises(whycam.WhycamError, match=r"what a black pixel is .* the model has no preprocessing\. Say it"):
        whycam.explain(net, as_function(photo)[None], name, target=1, baseline="black", **options_of(name))


def test_a_preprocessing_that_cannot_be_read(net, photo):
    def drawn(image):
        return as_function(image) + torch.rand(3, 12, 12)

    with pytest.raises(whycam.WhycamError, match="what a black pixel is in these inputs is not known"):
        whycam.explain(net, photo, "occlusion", preprocess=drawn, target=1, baseline="black")


def test_opti_cam_hides_with_black_or_says_why_not(net, photo):
    asked = {"target": 1, "steps": 2}
    known = whycam.explain(net, photo, "opti_cam", preprocess=PREPARE, **asked)
    assert known.options["baseline"] == "black"
    torch.testing.assert_close(
        known.maps, whycam.explain(net, photo, "opti_cam", preprocess=PREPARE, baseline=BLACK, **asked).maps
    )
    ready = whycam.explain(net, as_function(photo)[None], "opti_cam", **asked)
    assert ready.options["baseline"] == "zero"
    assert any("hidden pixels are 0" in note and "preprocess=" in note for note in ready.notes)
    assert not any("hidden pixels" in note for note in known.notes)
    zero = whycam.explain(net, as_function(photo)[None], "opti_cam", baseline="zero", **asked)
    torch.testing.assert_close(ready.maps, zero.maps)
    assert not any("hidden pixels" in note for note in zero.notes)


def test_a_method_called_by_itself_knows_no_preprocessing():
    with pytest.raises(OptionError, match="only explain knows what black is"):
        stand_in(torch.zeros(1, 3, 4, 4), "black")
