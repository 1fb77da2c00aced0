"""Where an input lies on its photo, measured, beside functions whose geometry is known by hand."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from whycam import Preprocess, WhycamError
from whycam.pictures.measured import measure
from whycam.pictures.photos import read_photo


def opencv():
    """OpenCV, which is no requirement of the tests; cases with it are left out where it is absent."""
    return pytest.importorskip("cv2")


CAT = skimage.data.chelsea()
SIZES = [(300, 451), (720, 480), (97, 213), (31, 40)]


def off(found, scale, offset):
    """The largest error at the input's corners, in its pixels."""
    return max(
        abs((at * found.scale[axis] + found.offset[axis]) - (at * scale[axis] + offset[axis])) / scale[axis]
        for axis in (0, 1)
        for at in (0.0, float(found.input_size[axis]))
    )


def tensor(array):
    return torch.from_numpy(np.array(array)).permute(2, 0, 1).float() / 255


def resized(image, height, width, way=Image.Resampling.BILINEAR):
    return np.asarray(image.resize((width, height), way))


#: Functions of a user's own, with the scale and offset (vertical, horizontal) for a photo's height and width.
BY_HAND = {
    "stretched": (lambda im: tensor(resized(im, 48, 64)), lambda h, w: ((h / 48, w / 64), (0, 0))),
    "bicubic": (
        lambda im: tensor(resized(im, 224, 200, Image.Resampling.BICUBIC)), lambda h, w: ((h / 224, w / 200), (0, 0)),
    ),
    "lanczos, enlarged": (
        lambda im: tensor(resized(im, im.height * 2, im.width * 2, Image.Resampling.LANCZOS)),
        lambda h, w: ((0.5, 0.5), (0, 0)),
    ),
    "cut out": (lambda im: tensor(np.asarray(im)[5:30, 7:39]), lambda h, w: ((1, 1), (5, 7))),
    "resized, then cut out": (
        lambda im: tensor(resized(im, 60, 80)[6:54, 4:70]), lambda h, w: ((h / 60, w / 80), (6 * h / 60, 4 * w / 80)),
    ),
    "padded": (
        lambda im: tensor(np.pad(resized(im, 40, 50), ((8, 4), (3, 7), (0, 0)), constant_values=114)),
        lambda h, w: ((h / 40, w / 50), (-8 * h / 40, -3 * w / 50)),
    ),
    "normalized, blue first": (
        lambda im: (tensor(resized(im, 48, 64)).flip(0) - 0.45) / torch.tensor([0.1, 0.2, 0.9])[:, None, None],
        lambda h, w: ((h / 48, w / 64), (0, 0)),
    ),
    "gray": (lambda im: tensor(resized(im, 48, 64)).mean(0, keepdim=True), lambda h, w: ((h / 48, w / 64), (0, 0))),
    "negative": (lambda im: 1 - tensor(resized(im, 48, 64)), lambda h, w: ((h / 48, w / 64), (0, 0))),
    "OpenCV's area": (
        lambda im: tensor(opencv().resize(np.asarray(im), (25, 20), interpolation=opencv().INTER_AREA)),
        lambda h, w: ((h / 20, w / 25), (0, 0)),
    ),
    "OpenCV's nearest": (
        lambda im: tensor(opencv().resize(np.asarray(im), (64, 64), interpolation=opencv().INTER_NEAREST_EXACT)),
        lambda h, w: ((h / 64, w / 64), (0, 0)),
    ),
    "OpenCV's warp": (
        lambda im: tensor(opencv().warpAffine(np.asarray(im), np.array([[0.5, 0, 3.25], [0, 0.5, 1.25]]), (30, 24))),
        lambda h, w: ((2, 2), (2 * -1.75 + 0.5, 2 * -3.75 + 0.5)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", BY_HAND)
def test_functions_of_a_user_s_own(name, size):
    function, known = BY_HAND[name]
    found = measure(function, size).geometry
    assert off(found, *known(*size)) < (0.5 if "nearest" in name else 0.12)
    assert found.photo_size == size


@pytest.mark.parametrize(
    "known",
    [
        Preprocess.imagenet(),
        Preprocess((48, 72), "stretch", interpolation="nearest"),
        Preprocess((64, 64), "letterbox", fill=(114, 114, 114)),
        Preprocess((64, 64), "shorter", crop=False, channels="bgr", mean=(0.1, 0.2, 0.3)),
        Preprocess((60, 50), "cover", (70, 64), interpolation="bicubic"),
        Preprocess((90, 70), "shorter", 64),  # padded above and below
    ],
    ids=lambda each: f"{each.resize}-{each.size}",
)
@pytest.mark.parametrize("size", [*SIZES, (1080, 1920)], ids=str)
def test_what_a_preprocess_says_of_itself(known, size):
    found, wanted = measure(lambda image: known(read_photo(image))[0], size), known.geometry(size)
    assert off(found.geometry, wanted.scale, wanted.offset) < (0.5 if known.interpolation == "nearest" else 0.12)
    assert found.geometry.content == wanted.content
    assert found.geometry.input_size == wanted.input_size
    assert found.order == ((2, 1, 0) if known.channels == "bgr" else (0, 1, 2))
    photo = read_photo(Image.fromarray(CAT).resize(size[::-1]))
    made, _ = known(photo)
    found.check(photo.image, made)
    apart = np.asarray(found.undo(made), float) - np.asarray(known.undo(made), float)
    top, left, bottom, right = map(int, wanted.content)
    assert np.abs(apart[top:bottom, left:right]).max() <= 1


def warped(image, matrix):
    return tensor(opencv().warpPerspective(np.asarray(image), np.array(matrix, float), (64, 64)))


BENDS = "turns, mirrors or bends"
RANDOM = np.random.default_rng(0)
REFUSED = {
    "mirrored": (lambda im: tensor(resized(im, 48, 64)[:, ::-1]), BENDS),
    "upside down": (lambda im: tensor(resized(im, 48, 64)[::-1]), BENDS),
    "lying down": (lambda im: tensor(resized(im, 48, 48).transpose(1, 0, 2)), BENDS),
    "turned by three degrees": (
        lambda im: tensor(np.asarray(im.resize((224, 224)).rotate(3))[20:200, 20:200]), BENDS,
    ),
    "in perspective": (
        lambda im: warped(im.resize((80, 80)), [[1, 0.2, 0], [0, 1, 0], [0.002, 0, 1]]), BENDS + "|no border",
    ),
    "reflected at the border": (
        lambda im: tensor(np.pad(resized(im, 48, 64), ((8, 8), (8, 8), (0, 0)), mode="reflect")), BENDS,
    ),
    "somewhere": (
        lambda im: tensor(resized(im, 60, 80)[(at := int(RANDOM.integers(0, 12))) : at + 40]), "draws random numbers",
    ),
    "of any color": (lambda im: tensor(resized(im, 48, 64)) * float(RANDOM.uniform(0.5, 1)), "random|mirrors"),
    "by its colors": (
        lambda im: tensor(resized(im, 48, 64)[:, :: (-1 if np.ptp(np.asarray(im).mean((0, 1))) > 50 else 1)]),
        "does not treat all colors or pictures alike",
    ),
    "by its colors, in part": (
        lambda im: tensor(np.roll(resized(im, 48, 64), 20 if np.ptp(np.asarray(im).mean((0, 1))) > 50 else 0, 1)),
        "does not treat all colors or pictures alike",
    ),
    "nothing": (lambda im: torch.zeros(3, 8, 8), "the same of a black and of a white"),
    "one number": (lambda im: torch.zeros(3), "makes .3,. of a photo"),
    "a disk": (
        lambda im: tensor(resized(im, 32, 32)) * (torch.from_numpy(np.hypot(*np.mgrid[-16:16, -16:16])) < 12),
        "what it pads is no border",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_resizing_and_cropping_is_said(name):
    function, words = REFUSED[name]
    with pytest.raises(WhycamError, match=words):
        measure(function, (300, 451))


def test_a_picture_of_its_input_where_the_colors_are_in_any_order():
    array = resized(Image.fromarray(CAT), 48, 64)
    found = measure(lambda im: tensor(resized(im, 48, 64))[[1, 2, 0]], (300, 451))
    assert found.order == (1, 2, 0)
    assert np.array_equal(np.asarray(found.undo(tensor(array)[[1, 2, 0]])), array)


def test_too_few_pixels_to_tell():
    with pytest.raises(WhycamError, match="too few pixels"):
        measure(lambda im: tensor(resized(im, 48, 64)), (7, 90))


def test_what_is_done_to_one_photo_alone_is_found_out():
    """By chance, or by what is in it: the photo does not lie in its input as measured."""
    found = measure(lambda im: tensor(resized(im, 48, 64)), (300, 451))
    photo = Image.fromarray(CAT)
    found.check(photo, tensor(resized(photo, 48, 64)))
    found.check(photo, 0.5 * tensor(resized(photo, 48, 64)) + 0.2)  # other colors, the same places
    for made in (resized(photo, 48, 64)[:, ::-1], resized(photo.crop((100, 60, 300, 200)), 48, 64)):
        with pytest.raises(WhycamError, match="something else than with others of its size"):
            found.check(photo, tensor(made))
    found.check(Image.new("RGB", (451, 300)), torch.zeros(3, 48, 64))  # nothing in it that could be elsewhere
