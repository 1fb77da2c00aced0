"""Small networks to train, the packages that train and log, and loggers that remember what they were given."""

import sys
from types import ModuleType

import nets
import numpy as np
import torch
import torchvision_shim
from torch import nn

import whycam

torchvision_shim.register()  # which Lightning and transformers import
# TensorBoard's own switch to leave out TensorFlow, which takes seconds and would change Keras' backend in other tests
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))


class Network(nets.Training):
    """Batch statistics and dropout in float32, whose training shows every random number and every buffer."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__()


def batch(samples: int = 8, seed: int = 1) -> torch.Tensor:
    return nets.images(samples, seed=seed).float()


CLASSES = torch.arange(8) % nets.CLASSES
WATCHED = batch(2, seed=2)


def trained(watch=lambda network, epoch: None, *, network=None, epochs=3):
    """The network and its optimizer after a few epochs of training, with something called in each of them."""
    network = Network() if network is None else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    torch.manual_seed(3)
    np.random.seed(3)
    for epoch in range(epochs):
        network.train()
        for _ in range(2):
            loss = nn.functional.cross_entropy(network(batch()), CLASSES)
            optimizer.zero_grad()
            loss.backward()
            watch(network, epoch)  # the worst moment: gradients are there, and not used yet
            optimizer.step()
    return network, optimizer


def left(network, optimizer=None):
    """All that a training leaves: weights, buffers, gradients, the optimizer's state, modes, random numbers."""
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    kept |= {f"{name}.grad": each.grad for name, each in network.named_parameters() if each.grad is not None}
    if optimizer is not None:
        for number, state in optimizer.state_dict()["state"].items():
            kept |= {f"optimizer {number} {name}": torch.as_tensor(value) for name, value in state.items()}
    kept |= {f"{name} trains": torch.tensor(each.training) for name, each in network.named_modules()}
    return kept | {"drawn": torch.get_rng_state(), "numpy": torch.from_numpy(np.random.get_state()[1].astype("int64"))}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Pictures:
    """A logger that is a function, and remembers."""

    def __init__(self):
        self.seen = []

    def __call__(self, tag, picture, step):
        self.seen.append((tag, picture, step))


def in_one_of_two_processes(rank, folder, watched):
    """A training of DistributedDataParallel's, and what it left, in a file."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    network, pictures = nn.parallel.DistributedDataParallel(Network()), Pictures()
    overlays = whycam.training.OverlayLogger(WATCHED, pictures)
    _, optimizer = trained(overlays if watched else lambda network, epoch: None, network=network)
    torch.save({"left": left(network, optimizer), "logged": len(pictures.seen)}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
