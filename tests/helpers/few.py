"""Short runs of methods and metrics, which say as much of what a network does to them as long ones."""

from whycam.kit.declared import Declared
from whycam.kit.quantities import OF_ATTENTION
from whycam.kit.registry import methods

#: Options that say how many runs are made: three are enough.
RUNS = ("samples", "steps", "channels", "groups", "segments")


def few(declared: Declared) -> dict[str, int]:
    """The options of a method or metric for a short run."""
    return {name: 3 for name, each in declared.options.items() if name in RUNS and type(each.default) is int}


#: Methods for any network, and those that read attention.
OF_ANY = {name: each for name, each in methods().items() if not each.needs & OF_ATTENTION}
OF_TOKENS = {name: each for name, each in methods().items() if each.needs & OF_ATTENTION}
#: Such options by the methods' names, of those that have some and work on any network.
FEW = {name: options for name, each in OF_ANY.items() if (options := few(each))}
