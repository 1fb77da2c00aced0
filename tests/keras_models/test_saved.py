"""`keras:PATH`: models from files, and from the command line."""

from pathlib import Path
from typing import Any

import keras
import keras_twins as twins
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import whycam
from whycam.cli import app
from whycam.errors import WhycamError

layers = keras.layers
BATCH = twins.last(twins.pictures())


@keras.saving.register_keras_serializable(package="elsewhere", name="Doubled")
class Registered(layers.Layer):
    """Known to Keras by name."""

    def call(self, x: Any) -> Any:
        return x * 2


class Doubled(layers.Layer):
    """Not known to Keras."""

    def call(self, x: Any) -> Any:
        return x * 2

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def custom() -> Any:
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, name="conv")(Doubled(name="doubled")(inputs))
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D(name="mean")(x)))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_saved_model_is_the_same_model(tmp_path: Path, suffix: str) -> None:
    model = twins.with_weights(twins.functional(), twins.plain_torch())
    path = tmp_path / f"mine.{suffix}"
    _save(model, path)
    loaded = whycam.load(f"keras:{path}")
    assert loaded.name == "mine"
    wanted = whycam.explain(model, BATCH, layer="relu2", target=1).maps
    torch.testing.assert_close(whycam.explain(loaded, BATCH, layer="relu2", target=1).maps, wanted)
    torch.testing.assert_close(whycam.explain(f"keras:{path}", BATCH, layer="relu2", target=1).maps, wanted)


def _save(model: Any, path: Path) -> None:
    import logging

    logging.disable(logging.WARNING)
    try:
        model.save(path)
    finally:
        logging.disable(logging.NOTSET)


def test_custom_objects(tmp_path: Path) -> None:
    path, model = tmp_path / "custom.keras", custom()
    model.save(path)
    with pytest.raises(WhycamError, match=r"needs Doubled, which is not Keras' own.*custom_objects=\{'Doubled'"):
        whycam.load(f"keras:{path}")
    loaded = whycam.load(f"keras:{path}", custom_objects={"Doubled": Doubled})
    wanted = whycam.explain(model, BATCH, layer="conv", target=1).maps
    torch.testing.assert_close(whycam.explain(loaded, BATCH, layer="conv", target=1).maps, wanted)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "lambda.keras"
    inputs = keras.Input((12, 12, 3))
    x = layers.Lambda(lambda x: x * 2, output_shape=(12, 12, 3))(inputs)
    keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(x))).save(path)
    with pytest.raises(WhycamError, match=r"holds code .* which is not run"):
        whycam.load(f"keras:{path}")


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    weights = tmp_path / "only.weights.h5"
    twins.functional().save_weights(weights)
    for spec, said in (
        ("keras:", "takes the path of a saved model"),
        (f"keras:{tmp_path}/absent.keras", "there is no file"),
        (f"keras:{tmp_path}/broken.keras", "cannot be read as a Keras model"),
        (f"keras:{tmp_path}", "is no saved Keras model"),
        (f"keras:{weights}", "holds weights alone"),
        (f"{tmp_path}/broken.keras", "is named as 'keras:"),
    ):
        with pytest.raises(WhycamError, match=said):
            whycam.load(spec)
    with pytest.raises(WhycamError, match="comes with its weights"):
        whycam.load(f"keras:{tmp_path}/broken.keras", weights=weights)
    with pytest.raises(WhycamError, match="custom_objects= is for"):
        whycam.load("builtin", custom_objects={})


def test_on_the_command_line(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((24, 24, 3)), layers.Rescaling(1 / 255), *twins.plain_layers()[3:]])
    model.save(tmp_path / "mine.keras")
    photo = tmp_path / "photo.png"
    keras.utils.save_img(photo, np.random.RandomState(0).uniform(0, 255, (40, 60, 3)))
    run = CliRunner().invoke(
        app, ["explain", str(photo), "--model", f"keras:{tmp_path}/mine.keras", "-o", str(tmp_path)]
    )
    assert run.exit_code == 0, run.output
    assert "relu2" in run.output or "norm" in run.output
    layers_run = CliRunner().invoke(app, ["layers", "--model", f"keras:{tmp_path}/mine.keras"])
    assert layers_run.exit_code == 0, layers_run.output
    assert "conv2" in layers_run.output
    assert "Conv2D" in layers_run.output
