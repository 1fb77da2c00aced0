"""Overlays of a few images while a network trains: a plain helper, and callbacks for Lightning and transformers."""

from whycam.training.hugging_face import HuggingFaceCallback as HuggingFaceCallback
from whycam.training.lightning import LightningCallback as LightningCallback
from whycam.training.overlays import OverlayLogger as OverlayLogger
