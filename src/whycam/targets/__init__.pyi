"""Made by docs/stub.py from the code; `python docs/generate.py` renews it."""

from whycam.targets.boxes import Box as Box
from whycam.targets.boxes import BoxSide as BoxSide
from whycam.targets.boxes import Boxes as Boxes
from whycam.targets.classes import ClassScore as ClassScore
from whycam.targets.classes import Contrast as Contrast
from whycam.targets.classes import Counterfactual as Counterfactual
from whycam.targets.classes import LogProbability as LogProbability
from whycam.targets.classes import MultiLabel as MultiLabel
from whycam.targets.classes import NOTHING as NOTHING
from whycam.targets.classes import Probability as Probability
from whycam.targets.classes import ReST as ReST
from whycam.targets.classes import Target as Target
from whycam.targets.outputs import Detections as Detections
from whycam.targets.reading import Borrowed as Borrowed
from whycam.targets.reading import ClassReading as ClassReading
from whycam.targets.reading import class_index as class_index
from whycam.targets.reading import fitting as fitting
from whycam.targets.reading import is_one_unit as is_one_unit
from whycam.targets.reading import name_of as name_of
from whycam.targets.reading import reading_of as reading_of
from whycam.targets.regions import Keypoint as Keypoint
from whycam.targets.regions import Region as Region
from whycam.targets.resolved import ResolvedTarget as ResolvedTarget
from whycam.targets.resolved import Score as Score
from whycam.targets.specs import TargetSpec as TargetSpec
from whycam.targets.specs import key as key
from whycam.targets.specs import resolve as resolve
from whycam.targets.structured import OutputTarget as OutputTarget
from whycam.targets.text import Text as Text
from whycam.targets.tokens import Tokens as Tokens
from whycam.targets.vectors import Similarity as Similarity
from whycam.targets.vectors import Towards as Towards
from whycam.targets.vectors import Triplet as Triplet
from whycam.targets.vectors import Value as Value

KINDS: tuple[type, ...]
