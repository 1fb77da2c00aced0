"""What callers of Keras pass: batches of any library, channels last or first, photos."""

from pathlib import Path
from typing import Any

import keras
import keras_by_hand as by_hand
import keras_twins as twins
import numpy as np
import pytest
import torch
from PIL import Image

import whycam
from whycam.errors import WhycamError
from whycam.network.model_tree import ModelTree

layers = keras.layers


@pytest.fixture(scope="module")
def network() -> Any:
    return twins.with_weights(twins.functional(), twins.plain_torch())


def test_any_array_of_decimals(network: Any) -> None:
    batch = twins.pictures()
    wanted = whycam.explain(network, batch, layer="relu2", target=1).maps
    for given in (
        twins.last(batch),
        twins.last(batch).astype("float64"),
        keras.ops.convert_to_tensor(twins.last(batch)),
        torch.from_numpy(twins.last(batch)),
        [twins.last(batch)],
        batch.numpy(),
    ):
        assert torch.equal(whycam.explain(network, given, layer="relu2", target=1).maps, wanted)


def test_the_weights_tell_the_device(network: Any) -> None:
    """They are in no module of PyTorch's; inputs that stayed on the CPU met maps on a GPU."""
    devices = ModelTree(whycam.Explainer(network).model.module).devices
    assert devices == ([torch.device("cpu")] if keras.config.backend() == "torch" else [])


def test_as_it_is_before_turned() -> None:
    """Where a batch may be read both ways, it is what the model takes."""
    model = keras.Sequential(
        [keras.Input((3, 3, 3)), layers.Conv2D(4, 2, name="conv"), layers.GlobalAveragePooling2D()]
    )
    batch = np.random.RandomState(0).randn(1, 3, 3, 3).astype("float32")
    wanted = by_hand.as_numpy(model(batch))
    np.testing.assert_allclose(whycam.explain(model, batch, target=2).scores.numpy(), wanted[:, 2], rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 13, 12, 3), (2, 12, 12, 4), (12, 12, 3), (2, 3, 12, 13)])
def test_wrong_shapes(network: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(WhycamError, match=r"takes batches of shape \(N, 12, 12, 3\); one of shape \(.*came"):
        whycam.explain(network, np.zeros(shape, "float32"))


def test_whole_numbers(network: Any) -> None:
    with pytest.raises(WhycamError, match=r"a ready batch is a floating-point tensor.*int64"):
        whycam.explain(network, np.zeros((2, 12, 12, 3), "int64"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.RandomState(0).randint(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((180, 120), Image.Resampling.BICUBIC).save(path)
    return path


APPLICATIONS = {
    "caffe": (keras.applications.ResNet50, keras.applications.resnet50, {}),
    "tf": (keras.applications.MobileNetV2, keras.applications.mobilenet_v2, {"alpha": 0.35}),
    "torch": (keras.applications.DenseNet121, keras.applications.densenet, {}),
    "inside": (keras.applications.EfficientNetB0, keras.applications.efficientnet, {}),
}


#: What stands before the network is the same on every backend, and compiling these takes half a minute each.
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (twins.BACKEND != "torch")) for kind in APPLICATIONS]
)
def test_photos_are_prepared_as_keras_applications_does(kind: str, photo: Path) -> None:
    build, module, more = APPLICATIONS[kind]
    model = build(input_shape=(64, 64, 3), weights=None, classes=10, **more)
    made = whycam.explain(model, photo, "layer_cam", layer=_late(model), target=1)
    image = keras.utils.img_to_array(keras.utils.load_img(photo, target_size=(64, 64)))
    wanted = module.preprocess_input(image[None].copy())
    np.testing.assert_allclose(made.context.inputs.movedim(1, -1).numpy(), wanted, atol=2e-4 if kind != "tf" else 2e-6)
    assert any("keras.applications" in note for note in made.notes), made.notes
    assert made.context.geometries[0].photo_size == (120, 180)


def _late(model: Any) -> str:
    return next(each.name for each in reversed(model.layers) if len(each.output.shape) == 4)


def test_photos_for_a_model_that_scales_inside(photo: Path) -> None:
    model = keras.Sequential(
        [keras.Input((24, 24, 3)), layers.RandomFlip(), layers.Rescaling(1 / 255), *twins.plain_layers()[3:]]
    )
    made = whycam.explain(model, photo, target=1)
    pixels = keras.utils.img_to_array(keras.utils.load_img(photo, target_size=(24, 24)))
    np.testing.assert_allclose(made.context.inputs.movedim(1, -1).numpy()[0], pixels, atol=1e-3)
    np.testing.assert_allclose(made.scores.softmax(0).shape, (1,))
    assert made.predictions[0].probability == pytest.approx(model.predict(pixels[None], verbose=0).max(), rel=1e-4)
    assert made.layer.location == "by construction"


def test_photos_without_preprocessing_are_refused(network: Any, photo: Path) -> None:
    with pytest.raises(WhycamError, match="preprocess="):
        whycam.explain(network, photo)


def test_preprocessing_as_callers_of_keras_write_it(network: Any, photo: Path) -> None:
    def prepare(image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("RGB").resize((12, 12)), "float32") / 255

    made = whycam.explain(network, photo, layer="relu2", target=1, preprocess=prepare)
    with Image.open(photo) as image:
        assert torch.equal(made.context.inputs[0].movedim(0, -1), torch.from_numpy(prepare(image)))


def test_a_vision_model_of_ones_own(network: Any, photo: Path) -> None:
    preprocess = whycam.Preprocess((12, 12), "stretch")
    asked = whycam.VisionModel(network, preprocess, [f"class {k}" for k in range(5)])
    made = whycam.explain(asked, photo, layer="relu2", target="class 3")
    assert made.target == ("class 3",)
    assert torch.equal(made.maps, whycam.explain(network, photo, layer="relu2", target=3, preprocess=preprocess).maps)


def test_labels_of_imagenet() -> None:
    model = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None)
    batch = np.random.RandomState(0).randn(1, 64, 64, 3).astype("float32")
    assert whycam.explain(model, batch, layer="Conv_1", target=281).target == ("tabby",)
