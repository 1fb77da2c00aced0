"""Run the tests of Keras models on TensorFlow and on JAX, each in a process of its own.

A backend is fixed when Keras is imported; the suite itself runs on torch's. One that is not installed is said and left
out.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    failed = []
    for backend in ("tensorflow", "jax"):
        if importlib.util.find_spec(backend) is None:
            print(f"skipped: the tests of Keras models on {backend}, which is not installed (pip could not get it)")
            continue
        print(f"Keras models on {backend}:", flush=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "--dist",
            "worksteal",
            str(HERE / "keras_models"),
            *sys.argv[1:],
        ]
        done = subprocess.run(command, cwd=HERE.parent, env=os.environ | {"KERAS_BACKEND": backend, **THREADS})
        if done.returncode:
            failed.append(backend)
    if failed:
        print(f"failed on {', '.join(failed)}")
    return int(bool(failed))


THREADS = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

if __name__ == "__main__":
    sys.exit(main())
