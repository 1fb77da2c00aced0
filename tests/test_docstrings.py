"""The examples in public docstrings run as printed, and everything public that one calls has one."""

import doctest
import inspect

import numpy as np
import pytest
import torch
import torchvision_shim
from torch import nn

import whycam
from whycam.kit import metric, registry

#: Results that one gets and does not make, and types of annotations.
WITHOUT = {
    "Checkup", "Cost", "Estimate", "Finding", "Layer", "LayerInfo", "Prediction", "Sample", "Score", "Trace",
    # the same as the methods of Explainer, where the examples are
    "choose", "compare", "doctor", "estimate_cost", "evaluate", "explain", "layers", "run",
}  # fmt: skip


def net() -> nn.Module:
    """A network whose answer cannot be taken for probabilities, which would cost a forward to tell."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    nn.init.normal_(made[-1].bias, std=9.0)
    return made.eval()


def public():
    for name in whycam.__all__:
        found = getattr(whycam, name)
        if inspect.ismodule(found):
            yield from (
                (f"{name}.{each}", value)
                for each, value in vars(found).items()
                if not each.startswith("_")
                and inspect.isclass(value)
                and f"{value.__module__}.".startswith(f"{found.__name__}.")
            )
            if name == "fusions":
                yield from ((f"fusions.{each}", getattr(found, each)) for each in ("mean", "winsor", "tanh"))
        elif not (
            isinstance(found, type) and issubclass(found, whycam.WhycamError) and found is not whycam.WhycamError
        ):
            yield name, found


torchvision_shim.register()  # which Lightning imports
PUBLIC = dict(public())
HELPERS = {
    "targets.Detections",
    "targets.OutputTarget",
    "targets.ResolvedTarget",
    "targets.Target",
    "targets.ClassReading",
    "targets.Borrowed",
}  # for authors of targets


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - WITHOUT - HELPERS))
def test_it_has_an_example(name):
    found = PUBLIC[name]
    methods = [each for _, each in inspect.getmembers(found, inspect.isfunction)] if inspect.isclass(found) else []
    assert any(">>>" in (each.__doc__ or "") for each in [found, *methods])


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_examples_run_as_printed(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHYCAM_CACHE", str(tmp_path))
    for table in (registry.TABLE, metric.TABLE):
        table.all()  # all there are, before an example registers another
        monkeypatch.setattr(table, "known", dict(table.known))
        monkeypatch.setattr(table, "spellings", dict(table.spellings))
    globs = {"torch": torch, "nn": nn, "np": np, "whycam": whycam, "net": net(), "batch": torch.rand(2, 3, 16, 16)}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for test in doctest.DocTestFinder(recurse=True).find(PUBLIC[name], name, globs=globs):
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
