"""Which axes of an input are space, settled in one place: channels, the batch and frames are told apart here."""

from torch import Tensor, nn


def space_axes(model: nn.Module, picture: Tensor) -> tuple[int, ...]:
    """The axes of an input that are space or time, in order; first of all the frames of a clip.

    `(N, L)` is a signal without an axis for channels. Of five axes the channels are the second, `(N, C, T, H, W)`,
    unless the model's first convolution takes as many channels as the third has, `(N, T, C, H, W)`.
    """
    if picture.ndim == 2:
        return (1,)
    if picture.ndim != 5:
        return tuple(range(2, picture.ndim))
    second, third = picture.shape[1:3]
    first = next((each for each in model.modules() if isinstance(each, (nn.Conv2d, nn.Conv3d))), None)
    wanted = first.in_channels if first is not None else 3
    frames_first = third == wanted and (second != wanted or _frames_first(model, first))
    return (1, 3, 4) if frames_first else (2, 3, 4)


def channels_first(picture: Tensor, space: tuple[int, ...]) -> Tensor:
    """The input as `(N, C, *space)`, which every method is written for."""
    if len(space) == picture.ndim - 1:
        return picture[:, None]
    (channel,) = set(range(1, picture.ndim)) - set(space)
    return picture.permute(0, channel, *space)


def as_given(variant: Tensor, space: tuple[int, ...]) -> Tensor:
    """`(N, C, *space)` as the model takes it."""
    if space == (1,):
        return variant[:, 0]
    return variant.movedim(1, 2) if space[0] == 1 else variant


def shape_of(model: nn.Module, picture: Tensor) -> tuple[int, ...]:
    """The shape of an input as `(N, C, *space)`."""
    if picture.ndim not in (2, 5):
        return tuple(picture.shape)
    space = space_axes(model, picture)
    channels = [side for axis, side in enumerate(picture.shape[1:], 1) if axis not in space] or [1]
    return (len(picture), *channels, *(picture.shape[axis] for axis in space))


def _frames_first(model: nn.Module, first: nn.Module | None) -> bool:
    """Where the sizes do not tell: pictures convolved one by one, and transformers' video models."""
    return isinstance(first, nn.Conv2d) or hasattr(getattr(model, "config", None), "num_frames")
