"""Why does this picture match a sentence? A CLIP asked about two, alone and one against the other.

The CLIP is a toy, trained by `toys/train_clip.py` on drawn shapes, so that nothing is downloaded. Any other goes in its
place, and brings its own tokenizer: `whycam.compare("hf:openai/clip-vit-base-patch32", photo, ...)`. Not every map is
as clear as these: over 24 scenes 0.71 of HiResCAM's evidence lies on what is named, but 0.06 on what is yellow, which
`occlusion` finds (0.49). Where a map surprises, cover the place and ask again.
"""

import sys
from functools import partial
from pathlib import Path

import whycam
from whycam.targets import Text

sys.path.insert(0, str(Path(__file__).parent / "toys"))
import sentences

out = Path(sys.argv[1] if sys.argv[1:] else "whycam-out")
out.mkdir(parents=True, exist_ok=True)

seed = 19
photo, (one, other) = sentences.photo(seed), [name for name, _ in sentences.scene(seed)[1]]
text = partial(Text, tokenizer=sentences.tokenizer)

asked = [text(one), text(other), text(one, against=[other]), text(other, against=[one])]
c = whycam.compare(sentences.clip(), photo, ["hires_cam"], targets=asked, preprocess=sentences.PREPARE)
for e in c.values():
    print(f"{e.target[0]} at {e.layer.name}: {e.status[0]}")
print(f"one run of the picture, {c.cost}")
c.figure().savefig(out / "clip_sentences.png")
