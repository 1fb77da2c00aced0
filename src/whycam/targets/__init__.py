"""What is explained: a model's output -> one score per sample.

Ready ones are the classes in the files beside this one: of class scores (`classes.py`), which take a class as index or
label text, a sequence with one for each sample, or `None` for each sample's top class; of boxes, regions and vectors.
Any callable from the output to a score per sample, shape `(batch,)`, will do.

A target is *resolved* on a batch's output once, when the network has run: top classes, rivals and sides are settled
then, so that scoring an edited input later asks about the same classes.
"""

from importlib import import_module
from pkgutil import iter_modules

from whycam.targets.classes import NOTHING as NOTHING
from whycam.targets.classes import MultiLabel as MultiLabel
from whycam.targets.classes import Target as Target
from whycam.targets.outputs import Detections as Detections
from whycam.targets.reading import Borrowed as Borrowed
from whycam.targets.reading import ClassReading as ClassReading
from whycam.targets.reading import class_index as class_index
from whycam.targets.reading import fitting as fitting
from whycam.targets.reading import is_one_unit as is_one_unit
from whycam.targets.reading import name_of as name_of
from whycam.targets.reading import reading_of as reading_of
from whycam.targets.resolved import ResolvedTarget as ResolvedTarget
from whycam.targets.resolved import Score as Score
from whycam.targets.specs import TargetSpec as TargetSpec
from whycam.targets.specs import key as key
from whycam.targets.specs import resolve as resolve
from whycam.targets.structured import OutputTarget as OutputTarget

#: What a class derives from, or is, to be a kind of target.
KINDS = (Target, MultiLabel, OutputTarget)

# Every kind of target in these files, so that a new one needs no line here; type checkers read `__init__.pyi`.
for _file in iter_modules(__path__):
    _module = import_module(f"{__name__}.{_file.name}")
    for _name, _kind in list(vars(_module).items()):
        if (
            not _name.startswith("_")
            and isinstance(_kind, type)
            and issubclass(_kind, KINDS)
            and _kind.__module__ == _module.__name__
        ):
            globals()[_name] = _kind
