"""What type checkers see: the stub is what the code says, misspelled names are errors, names of methods are known."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import whycam

ROOT = Path(__file__).parents[1]
RIGHT = """
import torch, whycam
from whycam import fusions, targets
model = torch.nn.Linear(1, 1)
e: whycam.Explanation = whycam.explain(model, torch.ones(1, 3, 8, 8), "grad_cam", target=targets.Probability(1))
c: whycam.Comparison = whycam.Explainer(model).compare(torch.ones(1), ["layer_cam"], fusion=fusions.winsor)
w: torch.Tensor = fusions.winsor([torch.ones(1)], [torch.ones(1)], percentile=50.0)
for each in whycam.layers("builtin", "cat.jpg"):
    each.name.upper()
try:
    whycam.doctor("builtin")
except whycam.LayerNotFound as error:
    print(error.advice)
"""
WRONG = ["whycam.explian(model, 1)", "whycam.Statuss", "whycam.explain(3, 4)", "whycam.targets.Probabilty(1)",
         "whycam.explain(model, 1, precision='float8')", "whycam.fusions.winsor(maps=3)",
         "whycam.metrics.delletion"]  # fmt: skip


def test_the_stub_is_what_the_code_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import stub

    written = (ROOT / "src" / "whycam" / "__init__.pyi").read_text()
    assert ast.dump(ast.parse(written)) == ast.dump(ast.parse(stub.stub())), "run python docs/generate.py"
    kinds = (ROOT / "src" / "whycam" / "targets" / "__init__.pyi").read_text()
    assert ast.dump(ast.parse(kinds)) == ast.dump(ast.parse(stub.targets())), "run python docs/generate.py"
    measured = (ROOT / "src" / "whycam" / "metrics" / "__init__.pyi").read_text()
    assert ast.dump(ast.parse(measured)) == ast.dump(ast.parse(stub.metrics())), "run python docs/generate.py"
    body = ast.parse(written).body
    public = {each.asname for node in body if isinstance(node, ast.ImportFrom) for each in node.names}
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    assert set(whycam.__all__) <= public | functions


@pytest.mark.slow
def test_a_checker_finds_what_is_wrong_and_nothing_else(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("\n".join([RIGHT.rstrip("\n"), *WRONG]))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path), str(script)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "src", check=False).stdout
    lines = {int(line.split(":")[1]) for line in said.splitlines() if "script.py:" in line and ": error:" in line}
    first = len(RIGHT.splitlines()) + 1
    assert lines == set(range(first, first + len(WRONG))), said
