"""Medical volumes as NIfTI files, in and out."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whycam.errors import PhotoError, missing
from whycam.kit.files import at_home
from whycam.pictures.media import Volume

ENDINGS = (".nii", ".nii.gz")


def read_volume(path: str | Path, order: str = "kji") -> Volume:
    """Read a volume from a NIfTI file, with the values that its header says: scaled, and not normalized.

    Args:
        order: which of the file's axes become D, H and W; see `Volume`. A fourth axis of the file are channels.

    Raises:
        MissingExtraError: nibabel is not installed.
        PhotoError: a file that cannot be read, or that holds no volume.

    Examples:
        >>> import nibabel
        >>> nibabel.save(nibabel.Nifti1Image(np.zeros((32, 30, 24), np.float32), np.eye(4)), "scan.nii")
        >>> whycam.read_volume("scan.nii").tensor.shape
        torch.Size([1, 1, 24, 30, 32])
    """
    nibabel = _nibabel("reading a volume")
    path = at_home(path)
    try:
        image = nibabel.load(path)
        values = torch.from_numpy(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except Exception as error:  # a foreign format, whose reader raises anything
        raise PhotoError(f"{path}: no volume that can be read: {error}") from None
    if values.ndim not in (3, 4):
        raise PhotoError(f"{path}: a volume has three axes, or four with channels; this one {tuple(values.shape)}")
    values = values[..., None] if values.ndim == 3 else values
    tensor = values.permute(3, *("ijk".index(axis) for axis in order))[None].contiguous()
    return Volume(tensor, image.affine, order, path)


def to_nifti(
    values: Float[Tensor, "depth height width"], volume: Volume, size: tuple[int, ...], *, compress: bool
) -> bytes:
    """A map as a NIfTI file's bytes, where it lies over a volume of `size` voxels.

    Raises:
        MissingExtraError: nibabel is not installed.
    """
    nibabel = _nibabel("writing a volume")
    array = values.detach().float().cpu().permute(volume.file_axes).numpy()
    image = nibabel.Nifti1Image(array, volume.affine_of(tuple(values.shape), size))
    image.header.set_xyzt_units("mm")
    data: bytes = image.to_bytes()
    return gzip.compress(data, mtime=0) if compress else data


def _nibabel(purpose: str) -> Any:
    try:
        import nibabel
    except ModuleNotFoundError:
        raise missing("nibabel", "nifti", purpose) from None
    return nibabel
