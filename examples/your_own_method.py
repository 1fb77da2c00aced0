"""A method of your own is a function whose parameters say what it needs; those after `*` are its options."""

import sys
from pathlib import Path

from skimage.data import chelsea

import whycam

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)


def sharp_cam(activations, gradients, *, power=1.0):
    """Where activation and gradient agree, channel by channel; a higher power keeps only the strongest places."""
    return (activations * gradients).clamp(min=0).sum(1) ** power


e = whycam.explain("builtin", chelsea(), sharp_cam, power=2.0)
e.overlay().save(out / "your_own_method.png")

# Beside others in one pass: it costs what they cost
c = whycam.compare("builtin", chelsea(), [sharp_cam, "grad_cam", "hires_cam"], options={"sharp_cam": {"power": 2.0}})
c.figure().savefig(out / "your_own_method_beside_others.png")
print(f"{e.method}{dict(e.options)} of {e.target[0]} at {e.layer.name}: {e.status[0]}; all together {c.cost}")
