"""Lightning's callback in a real Trainer: the same bits with and without it."""

import copy
import pickle
import sys
import warnings
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import CLASSES, WATCHED, Network, Pictures, batch, left, same

import whycam
from whycam.training import LightningCallback, OverlayLogger

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of packages that these import
    pl = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

pytestmark = [  # Lightning's own, about how it is used here
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*`isinstance.treespec, LeafSpec.` is deprecated"),
]


class Module(pl.LightningModule):
    """A network as people train it; `watch` is called inside its validation, if there is one."""

    def __init__(self, watch=None):
        super().__init__()
        self.net = Network()
        self.watch, self.inside = watch, []

    def forward(self, x):
        return self.net(x)

    def training_step(self, both, index):
        return nn.functional.cross_entropy(self(both[0]), both[1])

    def validation_step(self, both, index):
        self.log("loss", nn.functional.cross_entropy(self(both[0]), both[1]))
        if self.watch is not None and not self.trainer.sanity_checking:
            self.inside.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), self.training))
            assert self.watch(self, self.current_epoch) is not None

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.05)


def fitted(tmp_path, *callbacks, watch=None, epochs=4, logger=False, **options):
    """A module after its training, and its trainer."""
    module = Module(watch)
    torch.manual_seed(3)
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=[*callbacks], logger=logger, accelerator="cpu", default_root_dir=tmp_path,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    loader = DataLoader(TensorDataset(batch(), CLASSES), batch_size=4, shuffle=True)
    trainer.fit(module, loader, DataLoader(TensorDataset(batch(), CLASSES), batch_size=8))
    return module, trainer


def results(module, trainer):
    return left(module, trainer.optimizers[0]) | {"loss": trainer.callback_metrics["loss"]}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_ends_at_the_same_bits(tmp_path, precision):
    pictures = Pictures()
    callback = LightningCallback(WATCHED[:1], pictures, every_n_epochs=2, target=1)
    with_it = results(*fitted(tmp_path, callback, precision=precision))
    assert same(with_it, results(*fitted(tmp_path, precision=precision)))
    assert [step for _, _, step in pictures.seen] == [0, 4, 8]  # before; after two epochs of two steps; after four


def test_inside_validation_it_changes_nothing_either(tmp_path):
    pictures = Pictures()
    module, trainer = fitted(tmp_path, watch=OverlayLogger(WATCHED[:1], pictures, module="net"))
    assert module.inside == [(False, False, False)] * 4
    plain, its_trainer = fitted(tmp_path)
    assert same(results(module, trainer), results(plain, its_trainer))
    after = []
    for each, its in ((plain, its_trainer), (module, trainer)):
        torch.manual_seed(0)
        its.validate(each, DataLoader(TensorDataset(batch(), CLASSES), batch_size=8), verbose=False)
        after.append(left(each))
    assert same(*after)
    assert module.inside[4:] == [(False, True, False)]  # there in inference mode
    assert len(pictures.seen) == 5


def test_the_trainer_s_own_loggers_are_used_and_those_for_numbers_left_out(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoardLogger(tmp_path / "board")
    callback = LightningCallback(WATCHED, every_n_epochs=3, tag="seen")
    for steps in ([0, 6], [0, 6, 0, 6]):  # in another trainer too
        fitted(tmp_path, callback, logger=[CSVLogger(tmp_path / "numbers"), board])
        board.experiment.flush()
        events = EventAccumulator(board.log_dir).Reload()
        assert [each.step for each in events.Images("seen/sample1")] == steps[-2:]
        board = TensorBoardLogger(tmp_path / "board")


@pytest.mark.parametrize("named", [False, True])
def test_a_trainer_without_a_logger_for_pictures_is_told_before_it_trains(tmp_path, named):
    loggers = [CSVLogger(tmp_path)] if named else False
    with pytest.raises(whycam.WhycamError, match="CSVLogger" if named else "it has none"):
        fitted(tmp_path, LightningCallback(WATCHED), logger=loggers)


def test_a_failure_does_not_end_the_fit(tmp_path):
    with pytest.warns(UserWarning, match="no layer 'nowhere'"):
        _, trainer = fitted(tmp_path, LightningCallback(WATCHED, Pictures(), layer="nowhere"))
    assert trainer.current_epoch == 4


def test_it_is_a_callback_of_the_package_in_use(monkeypatch):
    callback = LightningCallback(WATCHED, Pictures())
    assert isinstance(callback, (LightningCallback, pl.Callback))
    other = ModuleType("lightning.pytorch")
    other.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning.pytorch", other)
    monkeypatch.setattr("whycam.training.lightning.find_spec", lambda name: True)
    assert isinstance(LightningCallback(WATCHED, Pictures()), other.Callback)
    monkeypatch.setattr("whycam.training.lightning.find_spec", lambda name: None)
    with pytest.raises(whycam.MissingExtraError, match="pip install lightning"):
        LightningCallback(WATCHED, Pictures())


class Own(LightningCallback):
    """Derived by a user."""


@pytest.mark.parametrize("kind", [LightningCallback, Own])
def test_it_goes_to_other_processes(kind):
    callback = kind(WATCHED, every_n_epochs=3)
    for again in (pickle.loads(pickle.dumps(callback)), copy.deepcopy(callback)):
        assert isinstance(again, kind)
        assert isinstance(again, pl.Callback)
        assert again.overlays.every == 3
        assert torch.equal(again.overlays.images, WATCHED)
