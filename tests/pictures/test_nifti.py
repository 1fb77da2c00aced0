"""Volumes from NIfTI files and maps into them: in the world, a map's cells lie where the voxels they cover lie."""

import sys

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

import whycam
from whycam.errors import MissingExtraError, PhotoError

SIZE, STEP, CELL = (24, 40, 12), (4, 8, 3), (1, 3, 2)  # along i, j, k


def turned():
    """Millimeters from voxels that are turned, mirrored, long and shifted, as scanners have them."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.9, 1.1, 3.0])
    affine[:3, 3] = (90.5, -126.0, -72.25)
    return affine


def lit():
    values = np.zeros(SIZE, np.float32)
    values[tuple(slice(at * by, (at + 1) * by) for at, by in zip(CELL, STEP, strict=True))] = 7
    return values


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(lit(), turned()), path)
    return path


class Cells(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step, self.feature = step, nn.Identity()

    def forward(self, x):
        x = self.feature(nn.functional.avg_pool3d(x, self.step))
        return torch.cat([x.flatten(2).sum(-1), -x.flatten(2).sum(-1)], 1)


def explained(scan, order="kji"):
    volume = whycam.read_volume(scan, order)
    step = tuple(STEP["ijk".index(axis)] for axis in order)
    return whycam.explain(Cells(step).eval(), volume, layer="feature", target=0)


def place(image):
    """Where the values of an image lie in the world, by their sizes."""
    values = np.asarray(image.dataobj, float)
    index = [float((values * at).sum() / values.sum()) for at in np.indices(values.shape)]
    return image.affine @ [*index, 1]


@pytest.mark.parametrize("order", ["kji", "ijk", "jki"])
def test_a_volume_has_its_axes_in_the_order_that_was_asked_for(scan, order):
    volume = whycam.read_volume(scan, order)
    expected = np.moveaxis(lit(), ["ijk".index(axis) for axis in order], [0, 1, 2])
    np.testing.assert_array_equal(volume.tensor[0, 0], expected)
    np.testing.assert_allclose(volume.affine, turned(), atol=1e-5)
    lengths = dict(zip("ijk", (0.9, 1.1, 3.0), strict=True))
    assert volume.spacing == pytest.approx([lengths[axis] for axis in order], abs=1e-5)
    names = dict(zip("ijk", ("sagittal", "coronal", "axial"), strict=True))
    assert volume.axes == tuple(names[axis] for axis in order)


@pytest.mark.parametrize("order", ["kji", "ijk", "jki"])
def test_a_lit_cell_lies_where_its_voxels_do(scan, tmp_path, order):
    e = explained(scan, order)
    (path,) = e.save(tmp_path / "map.nii.gz")
    cells, source = nibabel.load(path), nibabel.load(scan)
    assert cells.shape == tuple(size // by for size, by in zip(SIZE, STEP, strict=True))
    assert float(np.asarray(cells.dataobj)[CELL]) == pytest.approx(float(e.maps.max()))
    np.testing.assert_allclose(place(cells), place(source), atol=1e-3)
    # without the half voxel it would be off by more than a voxel
    assert np.abs(cells.affine[:3, 3] - source.affine[:3, 3]).max() > 1
    (path,) = e.save(tmp_path / "large.nii", resolution="input")
    large = nibabel.load(path)
    assert large.shape == SIZE
    np.testing.assert_allclose(large.affine, source.affine, atol=1e-5)
    np.testing.assert_allclose(np.linalg.inv(source.affine) @ (place(large) - place(source)), 0, atol=0.5)
    assert large.header.get_xyzt_units()[0] == "mm"


def test_both_grids_have_their_middle_at_one_place_in_the_world(scan, tmp_path):
    """Also where the sizes do not divide: a map covers the same space as what it was made of."""
    size, cells = (17, 23, 9), (4, 5, 2)
    volume = whycam.Volume(torch.zeros(1, 1, *size), turned())
    middle = [np.array([*((np.array(each)[::-1] - 1) / 2), 1]) for each in (size, cells)]
    np.testing.assert_allclose(turned() @ middle[0], volume.affine_of(cells, size) @ middle[1], atol=1e-9)
    np.testing.assert_allclose(volume.affine_of(size, size), turned(), atol=1e-12)


def test_the_file_gives_its_name_and_a_list_a_batch(scan, tmp_path):
    other = whycam.Volume(torch.rand(1, 1, 12, 40, 24), np.eye(4))
    e = whycam.explain(Cells((3, 8, 4)).eval(), [whycam.read_volume(scan), other], layer="feature", target=0)
    assert [path.name for path in e.save(tmp_path / "out") if path.suffix == ".gz"] == [
        "scan.grad_cam.map.nii.gz",
        "sample1.grad_cam.map.nii.gz",
    ]
    np.testing.assert_allclose(
        nibabel.load(tmp_path / "out" / "sample1.grad_cam.map.nii.gz").affine[:3, 3], [1.5, 3.5, 1]
    )


def test_a_fourth_axis_holds_channels(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 5, 2), np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "two.nii")
    np.testing.assert_array_equal(whycam.read_volume(tmp_path / "two.nii").tensor[0], values.transpose(3, 2, 1, 0))


def test_what_is_no_volume_is_said(tmp_path, scan, monkeypatch):
    (tmp_path / "text.nii").write_text("no volume")
    for name in ("text.nii", "absent.nii"):
        with pytest.raises(PhotoError, match=rf"{name}: no volume that can be read: "):
            whycam.read_volume(tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2), np.float32), np.eye(4)), tmp_path / "flat.nii")
    with pytest.raises(PhotoError, match=r"a volume has three axes, or four with channels; this one \(2, 2\)"):
        whycam.read_volume(tmp_path / "flat.nii")
    net = Cells((3, 8, 4)).eval()
    with pytest.raises(whycam.InputError, match=r"scan\.nii\.gz: read it with whycam\.read_volume"):
        whycam.explain(net, str(scan))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"needs nibabel, .*pip install 'whycam\[nifti\]'"):
        whycam.read_volume(scan)
