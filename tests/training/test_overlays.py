"""The plain helper logs what the network goes by, and the training ends at the same bits as without it."""

import contextlib
import random

import nets
import numpy as np
import pytest
import torch
import trainers
from PIL import Image
from torch import distributed, nn
from trainers import WATCHED, Network, Pictures, left, same, trained

import whycam
from whycam.training import OverlayLogger


def mixed_modes(network):
    """A frozen norm in a network that trains, as people write it."""
    network.train()
    network.bn.eval()


MOMENTS = {
    "as it is": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("mode", [nn.Module.train, nn.Module.eval, mixed_modes])
@pytest.mark.parametrize("moment", MOMENTS)
def test_training_ends_at_the_same_bits(moment, mode):
    pictures = Pictures()
    overlays = OverlayLogger(WATCHED, pictures)

    def watch(network, epoch):
        mode(network)
        with MOMENTS[moment]():
            assert overlays(network, epoch) is not None

    with_overlays = left(*trained(watch))
    assert same(with_overlays, left(*trained(lambda network, epoch: mode(network))))
    assert len(pictures.seen) == 3 * 2 * 2  # epochs, batches, images
    assert not same(with_overlays, left(*trained(lambda network, epoch: torch.rand(1))))


def test_a_preprocessing_that_draws_changes_no_number_of_the_training():
    def drawing(image):
        torch.rand(3), np.random.rand(3), random.random()
        return torch.from_numpy(np.array(image)).movedim(2, 0).float() / 255

    overlays = OverlayLogger(np.zeros((8, 8, 3), np.uint8), Pictures(), preprocess=drawing)
    random.seed(0)
    np.random.seed(0)
    network, python = Network(), random.getstate()
    before = left(network)
    assert overlays(network, 0) is not None
    assert same(before, left(network))
    assert random.getstate() == python


def test_the_network_is_explained_as_it_predicts_and_every_mode_is_put_back():
    network, _ = trained()
    mixed_modes(network)
    made = OverlayLogger(WATCHED, Pictures(), target=1)(network, 0)
    modes = [each.training for each in network.modules()]
    assert modes == [each is not network.bn for each in network.modules()]
    expected = whycam.explain(nets.twin(network).eval(), WATCHED, target=1)
    assert torch.equal(made.maps, expected.maps)
    with pytest.warns(UserWarning, match="training mode"):
        assert not torch.equal(made.maps, whycam.explain(network.train(), WATCHED, target=1).maps)


def test_a_network_that_does_more_in_eval_is_not_told():
    """As LoRA's layers, which merge their weights there and take them out again, with a rounding error."""

    class Merging(Network):
        def train(self, mode=True):
            assert mode, "eval() was called"
            return super().train(mode)

    assert OverlayLogger(WATCHED, Pictures())(Merging(), 0) is not None


def test_modes_are_put_back_after_an_interrupt():
    network = nets.Raising().float().train()
    network.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        OverlayLogger(WATCHED, Pictures())(network, 0)
    assert all(each.training for each in network.modules())


def test_a_picture_is_the_overlay_above_what_is_said_of_it():
    pictures = Pictures()
    network = Network()
    e = OverlayLogger(WATCHED, pictures, target=[1, 4])(network, 0)
    for (tag, picture, _), one, name in zip(pictures.seen, e, ("sample0", "sample1"), strict=True):
        assert tag == f"whycam/{name}"
        large = np.asarray(one.overlay(caption=False)).repeat(32, 0).repeat(32, 1)  # 8 pixels, 256 at least
        np.testing.assert_array_equal(picture[:256], large)
        assert len(picture) > 256
    strips = {}
    for target in (1, 4):
        again = Pictures()
        OverlayLogger(WATCHED[:1], again, target=target)(network, 0)
        strips[target] = again.seen[0][1][256:]
    assert strips[1].shape != strips[4].shape or (strips[1] != strips[4]).any()


def test_small_pictures_alone_are_enlarged():
    pictures = Pictures()
    OverlayLogger(nets.images(1, side=200).float(), pictures)(Network(), 0)
    assert pictures.seen[0][1].shape[1] == 200


def test_weights_that_are_nan_are_a_status_and_no_end_of_the_training():
    network = Network()
    nn.init.constant_(network.conv2.weight, torch.nan)
    pictures = Pictures()
    made = OverlayLogger(WATCHED, pictures)(network, 0)
    assert [each.kind for each in made.status] == ["non-finite"] * 2
    assert "conv2" in made.status[0].message
    assert len(pictures.seen) == 2


def test_what_fails_is_said_once_and_the_training_goes_on():
    network = nets.Raising().float().train()
    network.error = RuntimeError("out of memory")
    overlays = OverlayLogger(WATCHED, Pictures())
    with pytest.warns(UserWarning, match=r"goes on without 'whycam' overlays: .*out of memory"):
        assert overlays(network, 0) is None
    assert overlays(network, 1) is None  # another warning would be an error
    assert all(each.training for each in network.modules())
    network.error = RuntimeError("another")
    with pytest.warns(UserWarning, match="another"):
        overlays(network, 2)
    network.error = None
    assert overlays(network, 3) is not None


def test_a_logger_that_fails_is_said_too():
    def gone(tag, picture, step):
        raise ConnectionError("the server is gone")

    with pytest.warns(UserWarning, match="overlays: ConnectionError: the server is gone"):
        assert OverlayLogger(WATCHED, gone)(Network(), 0) is None


def test_every_nth_epoch_is_logged_under_the_epoch_or_a_step():
    pictures = Pictures()
    overlays = OverlayLogger(WATCHED[:1], pictures, every=3, tag="seen")
    made = [overlays(Network(), epoch) is not None for epoch in range(7)]
    assert made == [True, False, False, True, False, False, True]
    overlays(Network(), 9, 1234)
    assert [(tag, step) for tag, _, step in pictures.seen] == [("seen/sample0", step) for step in (0, 3, 6, 1234)]


def test_photos_are_read_once_and_named(tmp_path):
    for name in ("a cat", "a_cat", "Ä"):
        Image.fromarray(np.full((20, 24, 3), len(name) * 40, np.uint8)).save(tmp_path / f"{name}.png")
    paths = [tmp_path / f"{name}.png" for name in ("a cat", "a_cat", "Ä")]
    pictures = Pictures()
    overlays = OverlayLogger(paths, pictures, preprocess=whycam.Preprocess.imagenet(8, 8), labels=[*"abcde"])
    for path in paths:
        path.unlink()
    made = overlays(Network(), 0)
    assert [tag for tag, *_ in pictures.seen] == ["whycam/a_cat", "whycam/a_cat-2", "whycam/_"]
    assert made.target[0] in "abcde"
    with pytest.raises(whycam.PhotoError, match="no such file"):
        OverlayLogger(str(paths[0]), pictures)


def test_mistakes_are_told_when_it_is_made():
    with pytest.raises(whycam.MethodNotFound, match="grad_kam"):
        OverlayLogger(WATCHED, Pictures(), method="grad_kam")
    with pytest.raises(whycam.OptionError, match="every is 1 or more, not 0"):
        OverlayLogger(WATCHED, Pictures(), every=0)
    OverlayLogger(WATCHED, Pictures(), method="auto")


def test_a_part_of_the_model_is_explained_and_all_of_it_left():
    network = Network()
    whole = nn.ModuleDict({"net": network, "loss": nn.Dropout()})  # with no forward of its own
    made = OverlayLogger(WATCHED, Pictures(), module="net", target=2)(whole, 0)
    assert torch.equal(made.maps, whycam.explain(nets.twin(network).eval(), WATCHED, target=2).maps)
    assert whole["loss"].training
    with pytest.warns(UserWarning, match="has no attribute `head`"):
        OverlayLogger(WATCHED, Pictures(), module="head")(whole, 0)


def test_wrapped_and_compiled_networks_are_taken_as_they_are():
    network, _ = trained()
    expected = OverlayLogger(WATCHED, Pictures(), target=1)(network, 0).maps
    for wrapped in (nn.DataParallel(network), torch.compile(network, backend="eager")):
        assert torch.equal(OverlayLogger(WATCHED, Pictures(), target=1)(wrapped, 0).maps, expected)
        assert wrapped.training


def test_what_is_compiled_trains_on_without_being_compiled_anew():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    def run(watch):
        torch._dynamo.reset()
        return left(*trained(watch, network=torch.compile(Network(), backend=backend)))

    assert same(run(OverlayLogger(WATCHED, Pictures())), run(lambda network, epoch: None))
    assert len(compiled) == 2  # once in each run


def test_of_several_processes_the_first_one_logs(monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    for rank, logged in ((0, 2), (1, 0)):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        pictures = Pictures()
        OverlayLogger(WATCHED, pictures)(Network(), 0)
        assert len(pictures.seen) == logged


@pytest.mark.slow
def test_two_processes_end_at_the_same_bits_and_none_waits(tmp_path):
    found = {}
    for watched in (True, False):
        folder = tmp_path / str(watched)
        folder.mkdir()
        torch.multiprocessing.spawn(trainers.in_one_of_two_processes, (folder, watched), 2)
        found[watched] = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    assert [each["logged"] for each in found[True]] == [3 * 2 * 2, 0]
    for with_overlays, without in zip(found[True], found[False], strict=True):
        assert same(with_overlays["left"], without["left"])


class FullyShardedDataParallel(nn.Sequential):
    """By its name FSDP's wrapper, which would wait for the other processes."""


def test_parameters_that_are_spread_are_refused_before_anything_waits(tmp_path):
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        sharded = Network()
        fully_shard(sharded, mesh=distributed.device_mesh.init_device_mesh("cpu", (1,)))
        by_deepspeed = Network()
        by_deepspeed.conv1.weight.ds_id = 0
        for network in (sharded, by_deepspeed, FullyShardedDataParallel(Network())):
            network.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
            with pytest.warns(UserWarning, match="spread over processes"):
                assert OverlayLogger(WATCHED, Pictures())(network, 0) is None
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
def test_keras_models_are_watched_too():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                              keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])  # fmt: skip
    pictures = Pictures()
    assert OverlayLogger(WATCHED.movedim(1, -1).numpy(), pictures)(model, 0) is not None
    assert len(pictures.seen) == 2
