"""Writes `src/whycam/__init__.pyi`: what type checkers and editors know of the package, the methods' names among it."""

import ast
from pathlib import Path

import whycam

SOURCE = Path(whycam.__file__).parent
#: Functions of the package, and the methods of `Explainer` whose parameters they take.
FUNCTIONS = {
    "explain": "explain",
    "choose": "choose",
    "compare": "compare",
    "layers": "layers",
    "doctor": "doctor",
    "estimate_cost": "cost",
    "evaluate": "evaluate",
    "run": "run",
}


#: What only the bodies of these read.
INTERNAL = {
    "METHODS",
    "Progress",
    "Questions",
    "Request",
    "Session",
    "WhycamError",
    "as_vision_model",
    "chosen_metrics",
    "find",
}


def stub() -> str:
    """The stub's text."""
    tree = ast.parse((SOURCE / "explainer.py").read_text())
    (explainer,) = [each for each in tree.body if isinstance(each, ast.ClassDef)]
    methods = {each.name: each for each in explainer.body if isinstance(each, ast.FunctionDef)}
    imports = [
        f"from {each.module} import {name.name} as {name.asname or name.name}"
        for each in tree.body
        if isinstance(each, ast.ImportFrom)
        and each.module not in ("whycam", "whycam.checkup", "whycam.evaluation", "whycam.kit", "whycam.runs", "typing")
        for name in each.names
        if name.name not in INTERNAL
    ]
    homes = {name: home for name, home in whycam._HOMES.items() if name not in FUNCTIONS}
    homes |= {name: home.rpartition(".")[0] for name, home in whycam._MODULES.items()}
    imports += [f"from {home} import {name} as {name}" for name, home in homes.items()]
    names = ", ".join(f'"{each.name}"' for each in whycam.list_methods())
    lines = [
        '"""Made by docs/stub.py from the code; `python docs/generate.py` renews it."""',
        "",
        "from typing import Any, Literal, TypeAlias",
        "",
        *sorted(set(imports)),
        "",
        "__version__: str",
        "",
        f"_MethodName: TypeAlias = Literal[{names}]",
    ]
    for name, method in FUNCTIONS.items():
        lines += ["", _function(name, methods[method])]
    return "\n".join(lines) + "\n"


def _function(name: str, method: ast.FunctionDef) -> str:
    """A method of `Explainer` as a function of a model."""
    arguments = method.args
    arguments.args[0] = ast.arg("model", ast.Name("ModelLike"))
    for each in ("preprocess: PreprocessLike | None", "labels: Labels | None"):
        text, _, kind = each.partition(": ")
        arguments.kwonlyargs.append(ast.arg(text, ast.parse(kind, mode="eval").body))
        arguments.kw_defaults.append(ast.Constant(None))
    made = ast.unparse(arguments).replace("MethodLike", "_MethodName | MethodLike")
    made = made.replace("_MethodName | MethodLike] | str", "_MethodName | MethodLike] | Literal['all']")
    return f"def {name}({made}) -> {ast.unparse(method.returns)}: ..." if method.returns else ""


def targets() -> str:
    """The stub of `whycam.targets`: what it imports, and the kinds of targets that it finds in its files."""
    from whycam import targets

    tree = ast.parse((SOURCE / "targets" / "__init__.py").read_text())
    lines = [
        ast.unparse(each) for each in tree.body if isinstance(each, ast.ImportFrom) and " as " in ast.unparse(each)
    ]
    kinds = [each for each in vars(targets).values() if isinstance(each, type) and issubclass(each, targets.KINDS)]
    lines += [f"from {each.__module__} import {each.__name__} as {each.__name__}" for each in kinds]
    start = '"""Made by docs/stub.py from the code; `python docs/generate.py` renews it."""'
    return "\n".join([start, "", *sorted(set(lines)), "", "KINDS: tuple[type, ...]"]) + "\n"


def metrics() -> str:
    """The stub of `whycam.metrics`, whose names are the metrics that stand in the place of their files."""
    names = [each.name for each in whycam.list_metrics()]
    start = '"""Made by docs/stub.py from the code; `python docs/generate.py` renews it."""'
    return (
        "\n".join([start, "", "from whycam.kit.metric import Metric", "", *(f"{name}: Metric" for name in names)])
        + "\n"
    )


def write() -> None:
    """Renew the stubs."""
    (SOURCE / "__init__.pyi").write_text(stub())
    (SOURCE / "targets" / "__init__.pyi").write_text(targets())
    (SOURCE / "metrics" / "__init__.pyi").write_text(metrics())
