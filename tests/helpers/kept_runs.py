"""Runs of rows by hand, kept as `whycam.run` keeps them."""

import whycam
from whycam.runs.store import Store, packed

ASKED = {"model": "by hand", "methods": ["grad_cam"], "metrics": ["average_drop", "insertion"]}


def run_of(folder, rows, asked=ASKED, shard=2):
    """A run of rows; each has a map of 1 unless it says otherwise, or an error."""
    usual = {"method": "grad_cam", "layer": "top", "options": "{}", "status": "ok", "message": "", **packed([[1.0]])}
    with Store.create_or_continue(folder, asked, rows_per_shard=shard) as store:
        for number, row in enumerate(rows):
            store.add([{"source": f"{number}.jpg", **({} if "error" in row and "map" not in row else usual), **row}])
    return whycam.open_run(folder)


def maps(*several, **other):
    return [{"target": "cat", **packed(each, "float32"), **other} for each in several]
