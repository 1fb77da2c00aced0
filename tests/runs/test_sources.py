"""Sources of images, each with its ids, order, targets and labels told by hand."""

import csv
import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from whycam.errors import MissingExtraError, OptionError, WhycamError
from whycam.runs.sources import Item, open_source


def made(folder, *names):
    """Files whose bytes are their names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def ids(source):
    return [item.id for item in source]


# Folders, globs and single photos


def test_a_folders_photos_come_in_order_of_their_paths(tmp_path):
    made(tmp_path, "b.jpg", "a/z.PNG", "a/b/1.webp", "a/notes.txt", ".hidden.jpg", ".git/x.jpg", "Z.tiff", "a.jpg")
    source = open_source(tmp_path)
    assert ids(source) == ["Z.tiff", "a/b/1.webp", "a/z.PNG", "a.jpg", "b.jpg"]
    assert [item.photo for item in source] == [tmp_path / name for name in ids(source)]
    assert (source.kind, source.length) == ("folder", None)
    assert all(item.target is None and item.label is None for item in source)


def test_a_folder_is_named_as_it_was_given(tmp_path, monkeypatch):
    made(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert open_source("photos").text == open_source("photos/").text == "folder photos/"
    assert open_source("photos/*.jpg").text == "glob photos/*.jpg"
    assert open_source("photos/a.jpg").text == "photo photos/a.jpg"
    assert ids(open_source("photos/a.jpg")) == ["a.jpg"]
    assert open_source("photos/a.jpg").length == 1


def test_labels_are_the_first_folders_names(tmp_path):
    made(tmp_path, "train/cat/a.jpg", "train/dog/more/a.jpg", "train/alone.jpg")
    expected = [("alone.jpg", None), ("cat/a.jpg", "cat"), ("dog/more/a.jpg", "dog")]
    assert [(item.id, item.label) for item in open_source(tmp_path / "train", label_from="folder")] == expected
    globbed = open_source(str(tmp_path / "train" / "*" / "*.jpg"), label_from="folder")
    assert [(item.id, item.label) for item in globbed] == [("cat/a.jpg", "cat")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "p/a.jpg", "p/q/a.jpg"]),
        ("**", ["a.jpg", "p/a.jpg", "p/b.png", "p/q/a.jpg"]),
        ("p/*", ["a.jpg", "b.png"]),  # ids are relative to the fixed part
        ("?/q/[ab].jpg", ["p/q/a.jpg"]),
        ("**/q/*", ["p/q/a.jpg"]),
    ],
)
def test_globs(tmp_path, pattern, expected):
    made(tmp_path, "a.jpg", "p/a.jpg", "p/b.png", "p/q/a.jpg", "p/.h/a.jpg")
    assert ids(open_source(str(tmp_path / pattern))) == expected


def test_unicode_spaces_and_brackets_in_names(tmp_path):
    names = ["[1] an image.jpg", "große Katze/ein Bild.jpg", "猫.png"]
    made(tmp_path, *names)
    assert ids(open_source(tmp_path)) == names
    assert ids(open_source(tmp_path / names[0])) == [names[0]]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_unicode_has_an_id_that_can_be_written(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    (item,) = open_source(tmp_path)
    assert item.id == "caf\\xe9.jpg"
    assert item.photo.read_bytes() == b"x"
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg")
    (item,) = open_source(tmp_path / "list.txt")
    assert item.photo.read_bytes() == b"x"


def test_linked_folders_are_followed_and_loops_are_not(tmp_path):
    made(tmp_path, "elsewhere/cat/1.jpg", "data/a.jpg")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "cat" / "back").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "itself").symlink_to(tmp_path / "data" / "itself")
    assert ids(open_source(tmp_path / "data")) == ["a.jpg", "cat/1.jpg"]
    assert ids(open_source(str(tmp_path / "data" / "**" / "*.jpg"))) == ["a.jpg", "cat/1.jpg"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    made(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "b":  # nothing is refused to root
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    items = iter(open_source(tmp_path))
    assert next(items).id == "a/1.jpg"
    with pytest.raises(WhycamError, match=r"b: the folder cannot be listed: Permission denied\."):
        next(items)


def test_what_is_no_source_is_told(tmp_path):
    made(tmp_path, "notes.docx", "empty/.hidden.jpg")
    with pytest.raises(WhycamError, match=r"empty: the folder holds no image; looked for photos \(\.bmp.*\.parquet"):
        open_source(tmp_path / "empty")
    with pytest.raises(WhycamError, match=r"notes\.docx: a file of an unknown kind; known are photos.*\.txt"):
        open_source(tmp_path / "notes.docx")
    for absent in ("absent", "absent.jpg", "absent.csv", "*.jpg"):
        with pytest.raises(WhycamError, match="nothing of that name or pattern"):
            open_source(tmp_path / absent)
    with pytest.raises(WhycamError, match=r"a path, a glob, or an iterable of \(id, photo\), not int"):
        open_source(3)


def test_options_that_fit_no_source_are_refused(tmp_path):
    made(tmp_path, "a.jpg", "list.txt")
    with pytest.raises(OptionError, match="columns= is for a source of kind table or parquet; leave it out for folder"):
        open_source(tmp_path, columns={"photo": "x"})
    with pytest.raises(OptionError, match="label_from= is for a source of kind folder or glob"):
        open_source([tmp_path / "a.jpg"], label_from="folder")
    with pytest.raises(OptionError, match="label_from is 'folder' or left out, not 'file'"):
        open_source(tmp_path, label_from="file")
    with pytest.raises(OptionError, match="columns names photo, target, label, id; not 'picture'"):
        open_source(tmp_path, columns={"picture": "x"})


# Lists and tables


def test_a_list_of_paths(tmp_path):
    (tmp_path / "list.txt").write_text(
        "# the first ones\n\na.jpg\n  sub/ein Bild.jpg  \n#b.jpg\n./a.jpg\nabsent.jpg\n/abs/c.jpg\n",
        encoding="utf-8-sig",
    )
    source = open_source(tmp_path / "list.txt")
    assert ids(source) == ["a.jpg", "sub/ein Bild.jpg", "a.jpg-2", "absent.jpg", "/abs/c.jpg"]
    assert [item.photo for item in source][1:] == [
        tmp_path / "sub/ein Bild.jpg", tmp_path / "a.jpg", tmp_path / "absent.jpg", Path("/abs/c.jpg"),
    ]  # fmt: skip
    assert (source.kind, source.length) == ("list", 5)


def test_a_table_of_paths(tmp_path):
    (tmp_path / "t.csv").write_text(
        'Path,Target,label,more\na.jpg,281,tabby,x\n"b, c.jpg",tabby cat,,\nsub/a.jpg,3.0\na.jpg,,,\n'
    )
    source = open_source(tmp_path / "t.csv")
    assert [*source] == [
        Item("a.jpg", tmp_path / "a.jpg", 281, "tabby"),
        Item("b, c.jpg", tmp_path / "b, c.jpg", "tabby cat", None),
        Item("sub/a.jpg", tmp_path / "sub/a.jpg", 3, None),
        Item("a.jpg-2", tmp_path / "a.jpg", None, None),
    ]
    assert type(next(iter(source)).target) is int
    assert (source.kind, source.length) == ("table", 4)


def test_a_tables_columns_by_other_names(tmp_path):
    (tmp_path / "t.tsv").write_text("path\tmy column\tid\tclass\n0\ta.jpg\tone\t-7\n1\ta.jpg\ttwo\t8\n")
    found = open_source(tmp_path / "t.tsv", columns={"photo": "my column", "target": "class"})
    assert [*found] == [Item("one", tmp_path / "a.jpg", -7), Item("two", tmp_path / "a.jpg", 8)]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("paths,label\na.jpg,1\n", None, r"t\.csv has no column of photos, called path, file, .*has 'paths', 'label'"),
        ("path,label\na.jpg,1\n", {"photo": "pic"}, r"no column 'pic'; it has 'path', 'label'\."),
        ("path,label\na.jpg,1\n ,2\n", None, r"t\.csv, line 3: there is nothing in column 'path'"),
        ("path,id\na.jpg,\n", None, r"t\.csv, line 2: there is nothing in column 'id'"),
        ("path,id\na.jpg,x\nb.jpg,x\n", None, "a second image of id 'x'"),
        ("path\n", None, r"t\.csv: the table names no image"),
        ("", None, "it has none"),
        ("path\n" + "x" * 200_000, None, r"t\.csv: cannot be read as a table after line 1: field larger"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_at_once(tmp_path, text, columns, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(WhycamError, match=message):
        open_source(tmp_path / "t.csv", columns=columns)
    assert csv.field_size_limit() == 131_072  # nobody else's tables are read in another way


def test_an_empty_list_is_told(tmp_path):
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(WhycamError, match=r"list\.txt: the list names no image"):
        open_source(tmp_path / "list.txt")


# WebDataset shards


def shard(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def test_a_shards_samples(tmp_path):
    path = shard(
        tmp_path / "s.tar",
        {
            "./n01/cat.mask.png": b"mask", "./n01/cat.JPG": b"photo", "./n01/cat.cls": b"281\n",
            "n02/cat.json": json.dumps({"label": "dog", "target": 7, "more": [1]}).encode(), "n02/cat.webp": b"webp",
            "words.txt": b"no photo", "bare.left.png": b"left", "._bare.jpg": b"a Mac's own", "bare.json": b"[1]",
        },
    )  # fmt: skip
    source = open_source(path)
    expected = [
        Item("s.tar/n01/cat", b"photo", None, "281"),
        Item("s.tar/n02/cat", b"webp", 7, "dog"),
        Item("s.tar/bare", b"left"),
    ]
    assert [*source] == [*source] == expected
    assert (source.kind, source.length, source.text) == ("tar", None, f"tar {path}")


def test_several_shards(tmp_path, monkeypatch):
    for number in range(8, 12):
        shard(tmp_path / "a" / f"s-{number:03}.tar", {"x.jpg": b"%d" % number})
    shard(tmp_path / "b" / "s-008.tar", {"x.jpg": b"other"})
    monkeypatch.chdir(tmp_path)
    every = ["s-008.tar/x", "s-009.tar/x", "s-010.tar/x", "s-011.tar/x"]
    assert ids(open_source("a/s-{008..011}.tar")) == every
    assert ids(open_source("a/s-{010,008}.tar")) == [every[2], every[0]]
    assert ids(open_source("a/*.tar")) == ids(open_source("a")) == every
    both = open_source(["a/s-008.tar", Path("b/s-008.tar"), "a/s-008.tar"])
    assert [(item.id, item.photo) for item in both] == [("a/s-008.tar/x", b"8"), ("b/s-008.tar/x", b"other")]
    assert open_source("a/s-{008..011}.tar").text == "tar a/s-{008..011}.tar"
    assert both.text == "tar a/s-008.tar to a/s-008.tar, 3 in all"
    with pytest.raises(WhycamError, match=r"s-012\.tar: there is no such file"):
        open_source("a/s-{008..012}.tar")


@pytest.mark.parametrize(
    ("kept", "whole"),
    [
        (512 + 5, 0),
        (1024, 0),
        (1024 + 100, 0),
        (1536 + 1, 1),
        (2048, 1),
        (2560, 1),
        (3584, 2),
        (4096, 2),
        (4096 + 8, 2),
    ],
)
def test_a_shard_that_breaks_off_keeps_what_came_before(tmp_path, kept, whole):
    """Headers at 0, 1024, 2048, 3072, data 512 behind each. An image is whole when the next one's header has come."""
    path = shard(tmp_path / "s.tar", {"a.jpg": b"1" * 9, "b.jpg": b"2" * 9, "b.cls": b"3", "c.jpg": b"4" * 9})
    assert ids(open_source(path)) == ["s.tar/a", "s.tar/b", "s.tar/c"]
    path.write_bytes(path.read_bytes()[:kept])
    found = []
    with pytest.raises(WhycamError, match=r"s\.tar: the shard cannot be read whole: .*What came before is good"):
        found.extend(open_source(path))
    assert len(found) == whole


def test_shards_without_images_are_told(tmp_path):
    with pytest.raises(WhycamError, match=r"s\.tar: there is no image in it; looked for jpg, jpeg, png, webp"):
        open_source(shard(tmp_path / "s.tar", {"a.txt": b"1", "a.json": b"{}"}))


def test_a_shard_that_is_no_tar_or_says_nonsense_is_named(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(WhycamError, match=r"s\.tar: the shard cannot be read whole"):
        ids(open_source(tmp_path / "s.tar"))
    shard(tmp_path / "j.tar", {"a.jpg": b"", "a.json": b"{"})
    with pytest.raises(WhycamError, match=r"j\.tar, a: what is said of the image cannot be read"):
        ids(open_source(tmp_path / "j.tar"))
    shard(tmp_path / "d.tar", {"a.jpg": b"1", "b.jpg": b"2", "a.png": b"3"})
    with pytest.raises(WhycamError, match=r"d\.tar holds a second image of id 'd\.tar/a'"):
        ids(open_source(tmp_path / "d.tar"))


# Parquet files


def table(path, columns, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns), path, **options)
    return path


IMAGES = [{"bytes": b"one", "path": "1.jpg"}, {"bytes": None, "path": "2.jpg"}, None]


def test_the_layout_of_datasets(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"names": ["tench", "goldfish"], "_type": "ClassLabel"}}
    held = pyarrow.table({"label": [1, 0, -1], "path": ["x", "y", "z"], "image": IMAGES})
    held = held.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path = table(tmp_path / "data" / "train-0.parquet", held, row_group_size=2)
    source = open_source(path)
    assert [*source] == [*source]
    assert [*source] == [
        Item("train-0.parquet/0", b"one", None, "goldfish"),
        Item("train-0.parquet/1", tmp_path / "data" / "2.jpg", None, "tench"),
        Item("train-0.parquet/2", b"", None, "-1"),
    ]
    assert (source.kind, source.length) == ("parquet", 3)


def test_parquet_files_of_bytes_and_of_paths(tmp_path):
    table(tmp_path / "b.parquet", {"photo": [b"x", b"y"], "target": [5, None], "label": ["cat", None], "id": [10, 11]})
    assert [*open_source(tmp_path / "b.parquet")] == [Item("10", b"x", 5, "cat"), Item("11", b"y")]
    table(tmp_path / "p.parquet", {"pic": ["a.jpg", "/abs/b.jpg"], "target": ["cat", "7"]})
    assert [*open_source(tmp_path / "p.parquet", columns={"photo": "pic"})] == [
        Item("p.parquet/0", tmp_path / "a.jpg", "cat"),
        Item("p.parquet/1", Path("/abs/b.jpg"), 7),
    ]


def test_several_parquet_files(tmp_path):
    table(tmp_path / "train" / "0.parquet", {"path": ["a.jpg"]})
    table(tmp_path / "train" / "1.parquet", {"path": ["b.jpg", "c.jpg"]})
    table(tmp_path / "test" / "0.parquet", {"path": ["d.jpg"]})
    expected = ["test/0.parquet/0", "train/0.parquet/0", "train/1.parquet/0", "train/1.parquet/1"]
    assert ids(open_source(tmp_path)) == expected
    assert open_source(tmp_path).length == 4
    two = open_source([tmp_path / "train" / "1.parquet", tmp_path / "train" / "0.parquet"])
    assert ids(two) == ["1.parquet/0", "1.parquet/1", "0.parquet/0"]
    made(tmp_path, "train/photo.jpg")
    assert open_source(tmp_path).kind == "folder"


def test_parquet_files_that_do_not_fit_are_told_at_once(tmp_path):
    table(tmp_path / "a.parquet", {"path": ["a.jpg"]})
    table(tmp_path / "b.parquet", {"url": ["a.jpg"]})
    with pytest.raises(WhycamError, match=r"b\.parquet has no column of photos.*it has 'url'"):
        open_source(tmp_path)
    with pytest.raises(WhycamError, match="no column 'link'; it has 'path'"):
        open_source(tmp_path, columns={"photo": "link"})
    with pytest.raises(WhycamError, match="column 'n' is of type int64; photos are bytes, paths, or a struct"):
        open_source(table(tmp_path / "n.parquet", {"n": [1]}), columns={"photo": "n"})
    with pytest.raises(WhycamError, match=r"e\.parquet: there are no rows"):
        open_source(table(tmp_path / "e.parquet", {"path": pyarrow.array([], pyarrow.string())}))
    (tmp_path / "x.parquet").write_bytes(b"no Parquet file")
    with pytest.raises(WhycamError, match=r"x\.parquet: cannot be read as a Parquet file"):
        open_source(tmp_path / "x.parquet")
    twice = open_source(table(tmp_path / "t.parquet", {"path": ["a", "b"], "key": [1, 1]}), columns={"id": "key"})
    with pytest.raises(WhycamError, match="column 'key' holds a second image of id '1'"):
        ids(twice)


def test_a_damaged_row_group_keeps_what_came_before(tmp_path):
    rng = np.random.default_rng(0)
    path = table(tmp_path / "d.parquet", {"image": [rng.bytes(5000) for _ in range(64)]}, row_group_size=32)
    held = bytearray(path.read_bytes())
    second = parquet.read_metadata(path).row_group(1).column(0)
    start = second.dictionary_page_offset or second.data_page_offset
    held[start : start + 40] = b"\xff" * 40
    path.write_bytes(held)
    found = []
    with pytest.raises(WhycamError, match=r"d\.parquet: cannot be read from row 32"):
        found.extend(open_source(path))
    assert [item.id for item in found][-1] == "d.parquet/31"


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    made(tmp_path, "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"whycam\[runs\]"):
        open_source(tmp_path / "a.parquet")


# What a caller's own code brings


def test_an_iterable_of_pairs_triples_paths_and_items(tmp_path):
    array, image = np.zeros((2, 2), np.uint8), Image.new("RGB", (2, 2))
    given = [
        ("a", "x/a.jpg"),
        ("b", b"bytes", "cat"),
        (3, array, 281),
        ["d", image],
        Path("x/e.jpg"),
        "f.jpg",
        Item("g", b""),
    ]
    source = open_source(given)
    found = [(item.id, item.photo, item.target) for item in source]
    assert found[:2] == [("a", Path("x/a.jpg"), None), ("b", b"bytes", "cat")]
    assert (found[2][0], found[2][1] is array, found[2][2]) == ("3", True, 281)
    assert (found[3][0], found[3][1] is image) == ("d", True)
    assert found[4:] == [("x/e.jpg", Path("x/e.jpg"), None), ("f.jpg", Path("f.jpg"), None), ("g", b"", None)]
    assert (source.kind, source.text, source.length) == ("iterable", "iterable", 7)


def test_no_more_of_an_iterable_is_drawn_than_is_asked_for():
    drawn = 0

    def many():
        nonlocal drawn
        for number in range(1_000_000):
            drawn += 1
            yield f"{number}", b""

    source = open_source(many())
    assert (drawn, source.length) == (0, None)
    assert [item.id for item in itertools.islice(source, 3)] == ["0", "1", "2"]
    assert drawn == 3


def test_a_second_image_of_an_id_is_named_when_it_comes():
    items = iter(open_source((name, b"") for name in ["a", "b", "a"]))
    assert [next(items).id, next(items).id] == ["a", "b"]
    with pytest.raises(WhycamError, match="a second image of id 'a'; give each an id of its own"):
        next(items)


def test_an_iterable_of_something_else_is_told():
    with pytest.raises(WhycamError, match=r"an iterable brings paths, .*what came is float"):
        ids(open_source([1.5]))
    with pytest.raises(WhycamError, match="the source is empty"):
        open_source([])
    with pytest.raises(WhycamError, match="not dict"):
        open_source({"a": b""})


# All of them


def test_a_source_of_files_can_be_sent_to_another_process(tmp_path):
    made(tmp_path, "a.jpg")
    (tmp_path / "t.csv").write_text("path\na.jpg\n")
    shard(tmp_path / "s.tar", {"a.jpg": b"1"})
    table(tmp_path / "p.parquet", {"path": ["a.jpg"]})
    for name in ("", "*.jpg", "a.jpg", "t.csv", "s.tar", "p.parquet"):
        source = open_source(tmp_path / name)
        assert [*pickle.loads(pickle.dumps(source))] == [*source]


MEASURED = """
import re, sys
from pathlib import Path
from whycam.runs.sources import open_source

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

source = open_source(sys.argv[1])
before = most()
print(sum(1 for _ in source), most() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much it held")
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_shard_is_never_in_memory_whole(tmp_path, kind):
    path, photo = tmp_path / f"s.{kind}", bytes(250_000)
    if kind == "tar":
        shard(path, {f"{number}.jpg": photo for number in range(800)})
    else:
        rng = np.random.default_rng(0)
        table(path, {"image": [rng.bytes(250_000) for _ in range(800)]}, row_group_size=40)
    done = subprocess.run([sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 800
    assert grown < 100  # of 200 MB
