"""How pictures reach loggers: TensorBoard's own, and doubles with the parameters that the others document.

The doubles were held beside wandb 0.31, mlflow 3.17 and Lightning 2.6's loggers around both, which took the same calls.
"""

import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from trainers import WATCHED, Network, Pictures

import whycam
from whycam.training import OverlayLogger


def logged(logger, step=7):
    """What a function is given in the same place, by tag."""
    pictures = Pictures()
    network = Network()
    assert OverlayLogger(WATCHED, logger)(network, step) is not None
    OverlayLogger(WATCHED, pictures)(network, step)
    assert [each[2] for each in pictures.seen] == [step, step]
    return {tag: picture for tag, picture, _ in pictures.seen}


def equal(one, other):
    return one.keys() == other.keys() and all((np.asarray(one[tag]) == np.asarray(other[tag])).all() for tag in one)


def test_tensorboard_shows_the_pictures_at_their_steps(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        expected = logged(writer)
        logged(writer, step=9)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["whycam/sample0", "whycam/sample1"]
    for tag, picture in expected.items():
        first, second = events.Images(tag)
        assert (first.step, second.step) == (7, 9)
        path = tmp_path / "picture.png"
        path.write_bytes(first.encoded_image_string)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)


class Shown:
    """wandb.Image(data_or_path, mode=None, caption=None, ...)."""

    def __init__(self, data_or_path, mode=None, caption=None, grouping=None, classes=None, boxes=None, masks=None):
        self.picture, self.caption = data_or_path, caption


class Run:
    """wandb.Run, of which log(data, step=None, commit=None) takes lists of images."""

    def __init__(self):
        self.rows = []

    def log(self, data, step=None, commit=None):
        assert step is None, "what has a smaller step would be dropped"
        self.rows.append(data)


@pytest.fixture
def wandb(monkeypatch):
    module = ModuleType("wandb")
    module.Image = Shown
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(Run, "__module__", "wandb.sdk.wandb_run")
    return module


def test_weights_and_biases_gets_one_row_with_the_step_in_it(wandb):
    run = Run()
    expected = logged(run)
    (row,) = run.rows
    assert row["whycam/step"] == 7
    assert [each.caption for each in row["whycam"]] == ["sample0", "sample1"]
    assert equal({f"whycam/{each.caption}": each.picture for each in row["whycam"]}, expected)


def test_the_module_wandb_is_its_current_run(wandb):
    overlays = OverlayLogger(WATCHED, wandb)
    run = Run()
    wandb.log = run.log  # which wandb.init puts there
    overlays(Network(), 3)
    assert run.rows[0]["whycam/step"] == 3


class OneByOne:
    """Remembers what came by tag."""

    def __init__(self):
        self.seen, self.steps, self.runs = {}, set(), set()

    def keep(self, tag, picture, step, run=None):
        self.seen[tag] = picture
        self.steps.add(step)
        self.runs.add(run)


class Mlflow(OneByOne):
    """mlflow.log_image; its keys are of letters, digits, _ - . / and spaces, and its pictures arrays or PIL's."""

    def log_image(self, image, artifact_file=None, key=None, step=None, timestamp=None, synchronous=False):
        assert isinstance(image, Image.Image)
        self.keep(key, image, step)


class MlflowClient(OneByOne):
    """MlflowClient.log_image is told which run it is."""

    def log_image(
        self, run_id, image, artifact_file=None, key=None, step=None, timestamp=None, synchronous=None
    ):  # fmt: skip
        self.keep(key, image, step, run_id)


class Comet(OneByOne):
    """comet_ml.Experiment.log_image."""

    def log_image(self, image_data, name=None, overwrite=False, image_format="png", step=None):
        self.keep(name, image_data, step)


class OfSeveral(OneByOne):
    """WandbLogger.log_image of Lightning's, which has an experiment too."""

    experiment = None

    def log_image(self, key, images, step=None, **kwargs):
        assert type(images) is list
        for number, each in enumerate(images):
            self.keep(f"{key}/sample{number}", each, step)


class Board(OneByOne):
    """What has add_image: channels first unless told."""

    def add_image(self, tag, img_tensor, global_step=None, walltime=None, dataformats="CHW"):
        assert dataformats == "HWC"
        assert img_tensor.dtype == np.uint8
        self.keep(tag, img_tensor, global_step)


class Around:
    """Lightning's loggers, which hold what logs in `experiment`; that of MLflow says its run."""

    def __init__(self, experiment, **values):
        self.inner, self.looked = experiment, 0
        vars(self).update(values)

    @property
    def experiment(self):
        self.looked += 1
        return self.inner


@pytest.mark.parametrize("kind", [Mlflow, Comet, OfSeveral, Board])
def test_whatever_has_log_image_or_add_image_gets_each_picture_with_its_tag_and_step(kind):
    logger = kind()
    expected = logged(logger)
    assert equal(logger.seen, expected)
    assert logger.steps == {7}


def test_the_module_mlflow_is_one_of_them():
    module, kept = ModuleType("mlflow"), Mlflow()
    module.log_image = kept.log_image
    assert equal(kept.seen, {})
    assert equal(logged(module), kept.seen)


@pytest.mark.parametrize(("kind", "values"), [(Board, {}), (Comet, {}), (MlflowClient, {"run_id": "r1"})])
def test_lightning_s_loggers_are_looked_into_when_something_is_logged(kind, values):
    logger = Around(kind(), **values)
    overlays = OverlayLogger(WATCHED, logger)
    assert logger.looked == 0  # it would make files, in each process
    overlays(Network(), 7)
    assert logger.inner.steps == {7}
    assert logger.inner.runs == {values.get("run_id")}


def test_several_loggers_get_the_same():
    board, function = Board(), Pictures()
    logged([board, function])
    assert equal(board.seen, {tag: picture for tag, picture, _ in function.seen})


class Other:
    """Logs images by words of its own."""

    def log_image(self, picture_of_mine, title, step):
        raise AssertionError


class NoStep:
    def log_image(self, image, key):
        raise AssertionError


@pytest.mark.parametrize("logger", [None, [], 3, ModuleType("logging"), MlflowClient(), Other(), NoStep()])
def test_what_takes_no_pictures_is_refused_at_once(logger):
    with pytest.raises(whycam.WhycamError, match=r"a SummaryWriter of TensorBoard.* is none\. Pass a function"):
        OverlayLogger(WATCHED, logger)


def test_of_an_experiment_that_takes_none_it_is_said_when_it_is_looked_at():
    overlays = OverlayLogger(WATCHED, Around(object()))
    with pytest.warns(UserWarning, match="Around is none"):
        overlays(Network(), 0)
