"""Why tabby rather than tiger cat? What is explained is a choice of its own: a class, a contrast, what speaks against.

The network says tiger cat, so nothing speaks for tabby rather than tiger cat: that map is flat, and its status says so.
"""

import sys
from pathlib import Path

from skimage.data import chelsea

import whycam
from whycam.targets import Contrast, Counterfactual

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

questions = [
    "tiger cat",  # why tiger cat
    "tabby",  # why tabby
    Contrast("tabby", against="tiger cat"),  # why tabby rather than tiger cat
    Contrast("tiger cat", against="tabby"),  # and the other way round
    Contrast("tiger cat"),  # why tiger cat rather than the classes nearest to it: Finer-CAM
    Counterfactual("tiger cat"),  # what speaks against tiger cat
]
c = whycam.compare("builtin", chelsea(), targets=questions)
c.figure().savefig(out / "targets.png")

for e in c.values():
    print(f"{e.target[0]}: score {e.scores[0]:.2f}, {e.status[0]}")
print(f"the network says {e.predictions[0]}; {c.cost} for {len(c)} targets")
