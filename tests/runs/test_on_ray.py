"""The cases of `ray_cases.py`, in a process of their own: Ray's own code has crashed the process that uses it."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("ray_cases.py")


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_the_cases_pass(which: str) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", which, str(CASES)]
    for _ in range(3):
        done = subprocess.run(command, cwd=CASES.parents[2], capture_output=True, text=True, timeout=600)
        if any(word in done.stdout for word in (" passed", " failed", " error")):
            break  # else the process was gone before pytest could say how it went
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
