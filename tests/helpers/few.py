"""Short runs of every method, which say as much of what a network does to it as long ones."""

from whycam.kit.registry import Method, methods

#: Options that say how many runs a method makes: three are enough.
RUNS = ("samples", "steps", "channels", "groups")


def few(method: Method) -> dict[str, int]:
    """The method's options for a short run."""
    return {name: 3 for name, each in method.options.items() if name in RUNS and type(each.default) is int}


#: The same by the methods' names, of those that have such options.
FEW = {name: options for name, each in methods().items() if (options := few(each))}
