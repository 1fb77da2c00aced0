"""What a vision transformer looks at: each head of its last block, rollout from block to block, and five methods.

Attention itself explains no class: heads and rollout show whatever the network looks at. Asked about one of the three
badges of this scene, generic attention and transformer attribution have more than half of their evidence on it,
LeGrad a quarter (all that is red) and Grad-ECLIP less than a tenth. The network is a toy, trained by
`toys/train_patches.py`; it knows a badge from that badge alone, so its place is what a map should show.
"""

import sys
from pathlib import Path

import whycam

sys.path.insert(0, str(Path(__file__).parent / "toys"))
import patches

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

vit = patches.vit()
scene = patches.scene(5)
batch = scene.picture()[None]
asked = "red around blue"

heads = whycam.explain(vit, batch, "raw_attention", labels=patches.NAMES)
heads.figure().savefig(out / "attention_heads.png")

rollout = whycam.compare(vit, batch, ["attention_rollout"], layers=["blocks.*"])
rollout.figure().savefig(out / "attention_rollout.png")

names = ["attention_rollout", "generic_attention", "legrad", "grad_eclip", "transformer_attribution"]
methods = whycam.compare(vit, batch, names, targets=[asked], labels=patches.NAMES)
methods.figure().savefig(out / "attention_methods.png")
left, top, right, bottom = next(each.box for each in scene.badges if patches.NAMES[each.label] == asked)
for e in methods.values():
    heat = e.heatmaps()[0].clamp(min=0)
    share = float(heat[top : bottom + 1, left : right + 1].sum() / heat.sum())
    print(f"{e.title}: {share:.0%} of its evidence on the badge asked about")
print(methods.cost)
