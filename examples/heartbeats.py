"""When in a signal? A small 1-D network learns to find the one odd beat among others, and its map shows which it is.

The beats are made here, two channels at 100 samples a second, so the time is known. Colors against (`signed=True`) show
what speaks for the other class.
"""

import sys
from pathlib import Path

import torch
from torch import nn

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

RATE, SECONDS = 100, 6
torch.manual_seed(0)


def made(odd):
    """Beats a second or so apart, one of them wide where it is `odd`; and when that one is."""
    times = torch.arange(RATE * SECONDS) / RATE
    beats = (torch.arange(SECONDS) + 0.5 + 0.2 * (torch.rand(SECONDS) - 0.5)).tolist()
    which = int(torch.randint(SECONDS, ()))
    first, second = torch.zeros(2, len(times))
    for number, at in enumerate(beats):
        wide = 0.12 if odd and number == which else 0.03
        first += torch.exp(-(((times - at) / wide) ** 2))
        second -= 0.5 * torch.exp(-(((times - at - 0.05) / wide) ** 2))
    return torch.stack([first, second]) + 0.05 * torch.randn(2, len(times)), beats[which]


network = nn.Sequential(
    nn.Conv1d(2, 16, 11, padding=5), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(16, 16, 11, padding=5), nn.ReLU(),
    nn.MaxPool1d(2), nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
    nn.Linear(16, 2),
)  # fmt: skip
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
for _ in range(60):
    sorts = torch.arange(32) % 2
    loss = nn.functional.cross_entropy(network(torch.stack([made(bool(sort))[0] for sort in sorts])), sorts)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
network.eval()
tests = [(*made(i % 2 == 1), i % 2) for i in range(40)]
with torch.no_grad():
    read = network(torch.stack([signal for signal, *_ in tests])).argmax(1)
print(f"right: {(read == torch.tensor([sort for *_, sort in tests])).float().mean():.0%}")

signal, when, _ = tests[1]
e = whycam.explain(
    network, whycam.Signal(signal[None], RATE, ("lead 1", "lead 2")), target="odd", labels=["even", "odd"], signed=True
)
peak = int(e.heatmaps().argmax()) / RATE
print(f"{e.target[0]}: {e.status[0]}; the map's peak is at {peak:.2f} s, the odd beat at {when:.2f} s")
e.figure().savefig(out / "heartbeats.png")
