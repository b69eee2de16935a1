"""Folders of images as samples, with a preprocessing that is declared and nothing else.

    decode → resize → crop → order of channels → range → (x - mean) / std → layout → type

Pillow reads and resizes them; it comes with the extra ``images`` and is only imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from optc.errors import CapabilityError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optc.ir.types import Type
    from optc.numerics.sequences import Samples
    from optc.numerics.values import Array

SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageSettings(BaseModel):
    """What is done to an image before it is an input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: tuple[int, int] | int | None = Field(
        default=None,
        description="height and width to resize to; one number: what the shorter side becomes",
    )
    crop: tuple[int, int] | int | None = Field(
        default=None, description="height and width of the middle that is kept, or one for both"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] = Field(
        default="bilinear", description="how pixels are resized"
    )
    channels: Literal["RGB", "BGR", "L"] = Field(
        default="RGB", description="channels and their order; L: grey"
    )
    range: tuple[float, float] = Field(
        default=(0.0, 1.0), description="what 0 and 255 become, before mean and std"
    )
    mean: tuple[float, ...] = Field(default=(0.0,), description="subtracted, one or one a channel")
    std: tuple[float, ...] = Field(default=(1.0,), description="divided by, one or one a channel")
    layout: Literal["NCHW", "NHWC"] = Field(default="NCHW", description="order of the axes")
    dtype: Literal["float32", "uint8", "int8", "int32"] = Field(
        default="float32", description="type of the elements; integers are rounded to"
    )

    @model_validator(mode="after")
    def _one_per_channel(self) -> ImageSettings:
        sizes = {1, len(self.channels)}
        if not {len(self.mean), len(self.std)} <= sizes:
            raise ValueError(f"mean and std need one number, or {len(self.channels)}")
        if 0.0 in self.std:
            raise ValueError("std must not be zero")
        return self

    def apply(self, image: Any) -> Array:
        """The array of a Pillow image, without batch axis."""
        from PIL import Image

        method = getattr(Image.Resampling, self.interpolation.upper())
        image = image.convert("L" if self.channels == "L" else "RGB")
        if self.resize is not None:
            image = image.resize(self._size(image.width, image.height), method)
        pixels = np.asarray(image, np.uint8)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if self.crop is not None:
            pixels = _middle(pixels, self.crop)
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        low, high = self.range
        found = pixels.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        array: Array = (found - mean) / std
        if self.layout == "NCHW":
            array = array.transpose(2, 0, 1)
        if self.dtype != "float32":
            limits = np.iinfo(self.dtype)
            array = np.clip(np.rint(array), limits.min, limits.max)
        return np.ascontiguousarray(array.astype(self.dtype))

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after resizing."""
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        assert self.resize is not None
        shorter = min(width, height)
        return round(width * self.resize / shorter), round(height * self.resize / shorter)


def _middle(pixels: Array, crop: tuple[int, int] | int) -> Array:
    height, width = (crop, crop) if isinstance(crop, int) else crop
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    if top < 0 or left < 0:
        raise DataError(
            "data-shape",
            f"an image of {pixels.shape[:2]} pixels has no middle of {(height, width)}",
            hint="resize first: `resize:` with a number makes the shorter side that long",
        )
    return pixels[top : top + height, left : left + width]


@dataclass(frozen=True)
class ImageFolder(Sequence["Mapping[str, Array]"]):
    """Images as samples of one input, in the order of their names.

    Attributes:
        files: the images.
        name: the input.
        settings: what is done to them.
    """

    files: tuple[Path, ...]
    name: str
    settings: ImageSettings

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        from PIL import Image, UnidentifiedImageError

        path = self.files[index]
        try:
            with Image.open(path) as image:
                return {self.name: self.settings.apply(image)}
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(
                "data-unreadable", f"the image cannot be read: {error}", location=str(path)
            ) from error
        except DataError as error:
            error.location = str(path)
            raise


def image_samples(settings: ImageSettings, path: Path, types: Mapping[str, Type]) -> Samples:
    """The images of a folder, or one image.

    Raises:
        CapabilityError: ``images-missing``: Pillow is not installed.
        DataError: there are no images, or the model has several inputs.
    """
    try:
        import PIL  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise CapabilityError(
            "images-missing",
            "images are read with Pillow, which is not installed",
            hint="pip install 'optc[images]'",
        ) from error
    if len(types) != 1:
        raise DataError(
            "data-format",
            f"images cannot feed the {len(types)} inputs of the model",
            location=str(path),
            hint="`inputs:` with a range fills the others, or save an .npz",
        )
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = tuple(file for file in found if file.suffix.lower() in SUFFIXES)
    if not files:
        kinds = ", ".join(SUFFIXES)
        raise DataError("data-empty", f"there are no images ({kinds})", location=str(path))
    return ImageFolder(files, next(iter(types)), settings)
