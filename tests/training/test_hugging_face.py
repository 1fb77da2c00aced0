"""The callback in transformers' own Trainer: the same bits with and without it."""

import pickle

import pytest
import torch
import trainers
from trainers import CLASSES, Pictures, batch, left, same

import whycam
from whycam.training import HuggingFaceCallback

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")

WATCHED = trainers.batch(2, seed=2).repeat_interleave(4, 2).repeat_interleave(4, 3)
IMAGES = batch().repeat_interleave(4, 2).repeat_interleave(4, 3)


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return {"pixel_values": IMAGES[index], "labels": CLASSES[index]}


def trained(tmp_path, *callbacks, **options):
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=5
    )
    network = transformers.ResNetForImageClassification(config)
    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=4, per_device_train_batch_size=4, learning_rate=0.05, report_to="none",
        use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no", **options,
    )  # fmt: skip
    trainer = transformers.Trainer(network, arguments, train_dataset=Images(), callbacks=[*callbacks])
    trainer.train()
    return left(network, trainer.optimizer)


@pytest.mark.parametrize("options", [{}, {"bf16": True}])
def test_a_training_ends_at_the_same_bits(tmp_path, options):
    pictures = Pictures()
    callback = HuggingFaceCallback(WATCHED[:1], pictures, every_n_epochs=2, target=1)
    with_it = trained(tmp_path, callback, **options)
    assert same(with_it, trained(tmp_path, **options))
    assert [(tag, step) for tag, _, step in pictures.seen] == [("whycam/sample0", step) for step in (0, 4, 8)]


def test_it_is_a_callback_of_transformers_and_goes_to_other_processes():
    callback = HuggingFaceCallback(WATCHED, print, every_n_epochs=3)
    for each in (callback, pickle.loads(pickle.dumps(callback))):
        assert isinstance(each, transformers.TrainerCallback)
        assert isinstance(each, HuggingFaceCallback)
        assert each.overlays.every == 3


def test_without_transformers_it_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(whycam.MissingExtraError, match=r"whycam\[hf\]"):
        HuggingFaceCallback(WATCHED, print)
