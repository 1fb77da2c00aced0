"""Who may know whom, read from the source and seen from a fresh interpreter."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import whycam
from whycam.kit.registry import methods

ROOT = Path(whycam.__file__).parent
SOURCES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
METHODS = {name: path for name, path in SOURCES.items() if name.startswith("methods/")}
OF_TENSORS = {
    "torch", "einops", "jaxtyping", "typing", "collections.abc", "math", "whycam.kit.arrays", "whycam.kit.attention",
    "whycam.kit.registry",
    "whycam.errors", "whycam.kit.likeness", "whycam.kit.masks", "whycam.kit.options", "whycam.kit.quantities",
    "whycam.kit.status", "functools", "itertools",
}  # fmt: skip


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, path
            yield node.module or ""


@pytest.mark.parametrize("path", METHODS.values(), ids=METHODS)
def test_a_method_knows_tensors_and_nothing_else(path):
    assert {name for name in imported(path) if name not in OF_TENSORS and not name.startswith("torch.")} == set()


@pytest.mark.parametrize(
    "path", [path for name, path in METHODS.items() if "__init__" not in name], ids=lambda path: path.stem
)
def test_a_methods_file_is_named_as_the_method_in_it(path):
    assert methods()[path.stem].function.__module__ == f"whycam.methods.{path.stem}"


def test_hooks_on_modules_are_registered_in_one_place():
    names = ("register_forward", "register_full_backward", "register_backward", "register_module_")
    using = {name for name, path in SOURCES.items() if any(each in path.read_text() for each in names)}
    assert using == {"network/hooks.py"}


def test_pictures_and_methods_never_see_a_network():
    for name, path in SOURCES.items():
        if name.startswith(("pictures/", "methods/")):
            assert not any(
                each.startswith(("whycam.network", "whycam.engine", "whycam.models")) for each in imported(path)
            ), name


def test_there_is_no_import_circle():
    """Also none through imports inside functions or for type checkers alone; a `CycleError` names it."""
    root = Path(whycam.__file__).parent
    files = {".".join(("whycam", *each.relative_to(root).with_suffix("").parts)): each for each in root.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): each for name, each in files.items()}
    graph = {}
    for name, file in modules.items():
        found = [each for each in ast.walk(ast.parse(file.read_text())) if isinstance(each, ast.ImportFrom)]
        asked = [(each.module or "", alias.name) for each in found for alias in each.names]
        graph[name] = {f"{home}.{part}" if f"{home}.{part}" in modules else home for home, part in asked}
        graph[name] = (graph[name] & modules.keys()) - {name}
    TopologicalSorter(graph).prepare()


def test_importing_costs_little():
    code = "import sys, whycam; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "whycam" in loaded
    assert {"matplotlib", "PIL", "typer", "rich", "cmap", "torchvision"}.isdisjoint(loaded)


def test_explaining_needs_neither_matplotlib_nor_typer_nor_the_compiler():
    code = (
        "import sys, torch, whycam\n"
        "model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), "
        "torch.nn.Linear(144, 2))\n"
        "whycam.explain(model.eval(), torch.randn(1, 3, 8, 8))\n"
        "print(*{'matplotlib', 'typer', 'torchvision', 'torch._dynamo'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def test_every_public_name_resolves_and_none_is_hidden_by_a_module():
    modules = {module.name for module in pkgutil.iter_modules([str(ROOT)])}
    for name in whycam.__all__:
        value = getattr(whycam, name)
        if name in modules:
            assert value is importlib.import_module(f"whycam.{name}")
        else:
            assert not isinstance(value, type(sys)) or value.__name__.startswith("whycam.")
    functions = {name for name in whycam.__all__ if not isinstance(getattr(whycam, name), type(sys))}
    assert functions.isdisjoint(modules)
    assert set(whycam.__all__) <= set(dir(whycam))
    with pytest.raises(AttributeError, match="no attribute 'grad_cam'"):
        whycam.grad_cam  # noqa: B018


def test_functions_stay_functions_after_every_module_was_imported():
    """All but the modules of Keras' other backends, which a machine may have to do without."""
    code = (
        "import importlib, pkgutil, sys, whycam\n"
        "sys.modules.update(jax=None, tensorflow=None)\n"
        "for module in pkgutil.walk_packages(whycam.__path__, 'whycam.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ModuleNotFoundError as error:\n"
        "            assert error.name in ('jax', 'tensorflow'), error\n"
        "assert all(map(callable, (whycam.explain, whycam.compare, whycam.layers, whycam.load, whycam.method)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"KERAS_BACKEND": "torch"})
