"""One source shared by several jobs: each writes a run of its own, and these become one."""

import re
from pathlib import Path

from whycam.errors import OptionError, WhycamError
from whycam.kit.files import check_head, disk_errors_said, head_of, link_whole, write_whole
from whycam.runs.keeping import PICTURES
from whycam.runs.manifest import NAME, SCHEMA, keep_said, read_said
from whycam.runs.run import Run
from whycam.runs.store import Store

#: In the folder of a part that came to the end of its source.
_FINISHED = "finished"


def part_of(out: Path, shard: tuple[int, int], new: bool) -> Path:
    """The folder of one job's run; it is unfinished from now on."""
    k, n = shard
    if not 1 <= k <= n:
        raise OptionError(f"shard is K of N, K from 1 to N, such as 3 of 16; what came is {k} of {n}.")
    if new:
        raise OptionError("new is for a whole run; with shard, take another folder, the same for all jobs.")
    folder = out / f"shard-{k}-of-{n}"
    with disk_errors_said(folder):
        (folder / _FINISHED).unlink(missing_ok=True)
    return folder


def finish(folder: Path) -> None:
    """Say that a part came to the end of its source."""
    with disk_errors_said(folder):
        write_whole(folder / _FINISHED, b"", synced=True)


def merge_shards(out: str | Path, *, unfinished: bool = False) -> Run:
    """Make one run of those that `run(..., shard=(k, n))` wrote below a folder.

    Files are linked, or copied where the disk knows no links, one by one and each whole, so that a second call goes on
    where a first was stopped, and adds what parts have gained since. The parts stay as they are.

    Args:
        out: the folder that was given to the jobs; the run is in it then.
        unfinished: merge what there is, where a part is missing or its job has not come to its end.

    Raises:
        WhycamError: there are no parts, one is missing or unfinished, they answer different questions, or two of them
            hold the same image.

    Examples:
        >>> photos = [(f"{number}", np.full((20, 24, 3), number, dtype=np.uint8)) for number in range(3)]
        >>> explainer = whycam.Explainer(net, preprocess=whycam.Preprocess.imagenet(16, 16))
        >>> for k in (1, 2):
        ...     _ = explainer.run(photos, "maps", layer="0", workers=0, shard=(k, 2))
        >>> whycam.merge_shards("maps").table["source"].to_pylist()
        ['0', '2', '1']
    """
    folder = Path(out)
    parts = [Store.open(part) for part in _parts(folder, unfinished)]
    for part in parts[1:]:
        first, other = head_of(SCHEMA, parts[0].asked), head_of(SCHEMA, part.asked)
        advice = f"Parts answer one question: that of {parts[0].folder}, or the other."
        check_head(part.folder / NAME, first, other, "run", advice)
    with Store.create_or_continue(folder, parts[0].asked) as store:
        for part in parts:
            _link_pictures(folder, part.folder)
            said = read_said(part.folder)
            keep_said(folder, **{name: said[name] for name in ("source", "layers") if name in said})
            for name in part.shards:
                store.adopt(part, name)
    return Run(folder)


def _link_pictures(folder: Path, part: Path) -> None:
    """Pictures lie beside the table, each under its image's name."""
    with disk_errors_said(folder):
        for path in sorted(each for kind in PICTURES for each in (part / kind).rglob("*") if each.is_file()):
            half = path.name.startswith(".")  # written
            if not half and not (there := folder / path.relative_to(part)).exists():
                link_whole(there, path)


def _parts(folder: Path, unfinished: bool) -> list[Path]:
    """The folders of the parts, in their order."""
    found = [(path, re.fullmatch(r"shard-(\d+)-of-(\d+)", path.name)) for path in folder.glob("shard-*-of-*")]
    by_number = {(int(said[2]), int(said[1])): path for path, said in found if said and (path / NAME).exists()}
    if not by_number:
        raise WhycamError(
            f"{folder} holds no parts, shard-1-of-N and so on, which whycam run --shard K/N writes there."
        )
    counts = {n for n, _ in by_number}
    if len(counts) > 1:
        said = " and ".join(map(str, sorted(counts)))
        raise WhycamError(
            f"{folder} holds parts of {said} jobs, which share the source in other ways; delete the others."
        )
    n = counts.pop()
    open_ones = [k for k in range(1, n + 1) if (n, k) not in by_number or not (by_number[n, k] / _FINISHED).exists()]
    if open_ones and not unfinished:
        raise WhycamError(
            f"{folder}: of {n} parts, {', '.join(map(str, open_ones))} did not come to the end. Run --shard "
            f"{open_ones[0]}/{n} again, or pass --unfinished (unfinished=True) to merge what there is."
        )
    return [by_number[key] for key in sorted(by_number)]
