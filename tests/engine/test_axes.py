"""Which axes of an input are space, and where tokens lie: frames before channels, signals, guesses."""

import nets
import pytest
import torch
from torch import nn

import whycam
from whycam.network.layouts import Tokens

FRAMES, SIDE = 6, 12
CLIPS = torch.randn(2, FRAMES, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Video(nn.Module):
    """Tubelets of 2 frames and 4 x 4 pixels as tokens; `order` is that of the tokens, `frames_first` of the input."""

    def __init__(self, *, frames_first=True, order="t h w", prefix=0, classes=5):
        super().__init__()
        self.frames_first, self.order = frames_first, order
        self.embed = nn.Conv3d(3, 12, (2, 4, 4), stride=(2, 4, 4))
        self.cls = nn.ParameterList(torch.randn(1, 1, 12) for _ in range(prefix))
        self.block = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.GELU(), nn.LayerNorm(12))
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        x = self.embed(x.transpose(1, 2) if self.frames_first else x)
        x = x.flatten(2) if self.order == "t h w" else x.flatten(3).transpose(2, 3).flatten(2)
        x = self.block(torch.cat([*(each.expand(len(x), -1, -1) for each in self.cls), x.mT], 1))
        return self.head(x[:, len(self.cls) :].square().mean(1))


def tokens_by_hand(model, x, prefix, frames_last):
    """Grad-CAM at the block, by plain autograd, on the grid of tubelets."""
    kept = []
    handle = model.block.register_forward_hook(lambda _, __, out: kept.append(out) or None)
    logits = model(x)
    handle.remove()
    (gradients,) = torch.autograd.grad(logits.amax(1).sum(), kept)
    maps = []
    for each in (kept[0], gradients):
        patches = each[:, prefix:].mT
        maps.append(patches.reshape(2, 12, 3, 3, 3).movedim(-1, 2) if frames_last else patches.reshape(2, 12, 3, 3, 3))
    return (maps[0] * maps[1].mean((2, 3, 4), keepdim=True)).sum(1).relu().detach().float()


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("order", ["t h w", "h w t"])
@pytest.mark.parametrize("frames_first", [True, False])
def test_the_tokens_of_a_clip_lie_in_their_frames(frames_first, order, prefix):
    model = nets.fixed(Video(frames_first=frames_first, order=order, prefix=prefix))
    x = CLIPS if frames_first else CLIPS.transpose(1, 2).contiguous()
    found = whycam.explain(model, x, layer="block")
    assert (found.layer.grid, found.layer.location) == ((3, 3, 3), "verified")
    assert ("frames last" in found.layer.layout) == (order == "h w t")
    torch.testing.assert_close(found.maps, tokens_by_hand(model, x, prefix, order == "h w t"))
    assert found.heatmaps().shape == (2, FRAMES, SIDE, SIDE)
    assert whycam.explain(model, x).maps.shape == (2, 3, 3, 3)


INPUT_METHODS = {
    "rise": {"samples": 12},
    "occlusion": {"window": 0.5},
    "guided_backprop": {},
    "score_cam": {},
    "integrated_grad_cam": {"steps": 3},
    "smooth_grad_cam_plus_plus": {"samples": 2},
    "sess": {"steps": 2},
}


class Clip(nn.Module):
    """A small convolutional network for clips, which takes their axes in either order."""

    def __init__(self, *, frames_first):
        super().__init__()
        self.frames_first = frames_first
        self.conv = nn.Conv3d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.relu(self.conv(x.transpose(1, 2) if self.frames_first else x))
        return self.head(x.mean((2, 3, 4)))


@pytest.mark.parametrize("method", [*INPUT_METHODS, "grad_cam"])
def test_a_clip_with_its_frames_first_gets_the_map_that_it_would_get_the_other_way(method):
    plain, turned = (nets.fixed(Clip(frames_first=each)) for each in (False, True))
    options = {**INPUT_METHODS.get(method, {}), "progress": False}
    if method in ("rise",):
        options["seed"] = 0
    expected = whycam.explain(plain, CLIPS.transpose(1, 2).contiguous(), method, **options)
    found = whycam.explain(turned, CLIPS, method, **options)
    torch.testing.assert_close(found.maps, expected.maps)
    torch.testing.assert_close(found.heatmaps(), expected.heatmaps())
    assert found.heatmaps().shape == (2, FRAMES, SIDE, SIDE)


class PerFrame(nn.Module):
    """A network for pictures run on each frame, then one vector for each."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(6, 6))
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        vectors = self.cnn(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.head(self.mix(self.lstm(vectors)[0]).square().mean(1))


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 8, 9, 12, 16])
@pytest.mark.parametrize("layer", [None, "mix"])
def test_a_vector_for_each_frame_is_no_picture(frames, layer):
    x = torch.randn(2, frames, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = whycam.explain(nets.fixed(PerFrame()), x, layer=layer)
    assert found.maps.shape[1:] in ((frames, 1, 1), (SIDE - 2, SIDE - 2))
    if layer == "mix":
        assert found.maps.shape == (2, frames, 1, 1)
        assert found.heatmaps().shape == (2, frames, SIDE, SIDE)


class Signal(nn.Module):
    """Raw audio `(N, L)`: a spectrogram made inside, then convolutions over frequencies and time, or over time."""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))
        self.conv2d = nn.Sequential(nn.Conv2d(1, 4, 3, (2, 1), 1), nn.ReLU())
        self.conv1d = nn.Sequential(nn.Conv1d(20, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6, 5)

    def forward(self, wave):
        x = torch.stft(wave, 16, 8, window=self.window, return_complex=True).abs().square().add(1e-6).log()
        return self.head(self.conv1d(self.conv2d(x[:, None]).flatten(1, 2)).mean(2))


WAVES = torch.randn(2, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layer", ["conv2d", "conv1d", None])
def test_a_signal_needs_no_axis_for_channels(layer):
    model = nets.fixed(Signal())
    found = whycam.explain(model, WAVES, layer=layer)
    kept = []
    handle = model.get_submodule(found.layer.name).register_forward_hook(lambda _, __, out: kept.append(out) or None)
    logits = model(WAVES)
    handle.remove()
    (gradients,) = torch.autograd.grad(logits.amax(1).sum(), kept)
    weights = gradients.mean(tuple(range(2, gradients.ndim)), keepdim=True)
    torch.testing.assert_close(found.maps, (weights * kept[0]).sum(1).relu().detach().float())
    assert found.ok
    own = layer == "conv2d"
    assert found.heatmaps().shape == ((2, *found.maps.shape[1:]) if own else (2, 200))
    assert whycam.explain(model, {"wave": WAVES}, layer=layer).maps.equal(found.maps)


@pytest.mark.parametrize("method", ["rise", "occlusion", "score_cam"])
def test_methods_at_the_input_take_a_signal(method):
    options = {"samples": 8} if method == "rise" else {"window": 20} if method == "occlusion" else {}
    layer = {"layer": "conv1d"} if method == "score_cam" else {}
    found = whycam.explain(nets.fixed(Signal()), WAVES, method, progress=False, **layer, **options)
    assert found.heatmaps().shape == (2, 200)


class OneStream(nn.Module):
    """Words, then patches, in one row of tokens; `shuffled` takes the patches in an order of its own."""

    def __init__(self, words, *, shuffled=False, after=0):
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 4, stride=4)
        self.words = nn.ParameterList(torch.randn(1, 1, 12) for _ in range(words))
        self.after = nn.ParameterList(torch.randn(1, 1, 12) for _ in range(after))
        self.shuffled = shuffled
        self.block = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.GELU(), nn.LayerNorm(12))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        patches = self.embed(x).flatten(2).mT
        if self.shuffled:
            patches = patches[:, torch.randperm(patches.shape[1])]
        words, after = ([each.expand(len(x), -1, -1) for each in several] for several in (self.words, self.after))
        return self.head(self.block(torch.cat([*words, patches, *after], 1)).square().mean(1))


PICTURES = torch.randn(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("words", [0, 1, 2, 3, 8, 11, 40])
def test_words_before_the_patches_are_set_aside(words):
    found = whycam.explain(nets.fixed(OneStream(words)), PICTURES, layer="block")
    assert found.layer.layout == str(Tokens((4, 6), words))
    assert found.layer.location == "verified"


@pytest.mark.parametrize(("words", "after"), [(8, 0), (4, 0), (2, 0), (2, 4), (3, 3)])
@pytest.mark.parametrize("shuffled", [True, False])
def test_no_grid_is_made_up_from_a_number_of_tokens(words, after, shuffled):
    if not shuffled and not after:
        pytest.skip("which is a picture behind words")
    model = nets.fixed(OneStream(words, shuffled=shuffled, after=after))
    with pytest.raises(whycam.WhycamError, match=r"tokens of layer 'block' are patches.*could not be told"):
        whycam.explain(model, PICTURES, layer="block")
    assert whycam.explain(model, PICTURES).layer.name == "embed"
    told = whycam.explain(model, PICTURES, layer="block", layout=Tokens((4, 6), words, after))
    assert told.layer.location == "as given"


def test_a_grid_that_is_shifted_by_one_row_is_not_confirmed():
    tall = torch.randn(2, 3, 48, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = nets.fixed(OneStream(0, after=6))  # as if the first row of patches were words, and the words the last row
    assert whycam.explain(model, tall).layer.name == "embed"


class Spread(nn.Module):
    """Patches without a convolution, and every change spread over all of them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(48, 12)
        self.places = nn.Parameter(torch.randn(24, 12))
        self.block = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        patches = self.embed(nn.functional.unfold(x, 4, stride=4).mT)
        return self.head(self.block(patches.mean(1, keepdim=True) + self.places).square().mean(1))


def test_a_grid_that_nothing_but_a_number_speaks_for_has_a_status():
    found = whycam.explain(nets.fixed(Spread()), PICTURES, layer="block")
    assert found.layer.location == "undetermined"
    assert {each.kind for each in found.status} == {"unverified grid"}
    assert "grid of 4x6 by their number alone" in found.status[0].message
    given = whycam.explain(nets.fixed(Spread()), PICTURES, layer="block", layout=Tokens((4, 6), 0))
    assert given.ok


class Reader(nn.Module):
    """Pictures become tokens, which a long row of layers that know no places reads among words."""

    def __init__(self, depth):
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 4, stride=4)
        self.vision = nn.LayerNorm(12)
        self.words = nn.Parameter(torch.randn(1, 3, 12))
        self.after = nn.Parameter(torch.randn(1, 2, 12))
        self.text = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.LayerNorm(12)) for _ in range(depth))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        tokens = self.vision(self.embed(x).flatten(2).mT)
        x = torch.cat([self.words.expand(len(x), -1, -1), tokens, self.after.expand(len(x), -1, -1)], 1)
        for each in self.text:
            x = each(x) + x.mean(1, keepdim=True)
        return self.head(x[:, -1])


@pytest.mark.parametrize("depth", [2, 4, 30])
def test_the_choice_goes_on_to_the_part_that_sees_the_picture(depth):
    found = whycam.explain(nets.fixed(Reader(depth)), PICTURES)
    assert (found.layer.name, found.layer.location) == ("vision", "verified")
    assert "cannot be told" in found.layer.why
