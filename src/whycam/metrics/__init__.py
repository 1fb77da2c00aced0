"""How good maps are, one file per metric: a pure function of maps and what its other parameters name.

Here each name is the metric itself, which measures maps of any library: `whycam.metrics.deletion(maps, model, inputs)`.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    # the metric stands in the place of its file, which has its name
    globals()[_module.name] = getattr(import_module(f"{__name__}.{_module.name}"), _module.name)
