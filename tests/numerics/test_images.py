"""Images and loaded samples as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from optc.errors import CapabilityError, DataError
from optc.ir.types import DType, TensorType
from optc.numerics import sequences
from optc.numerics.data import open_dataset
from optc.numerics.images import ImageSettings, image_samples
from optc.numerics.inputs import InputHints
from optc.numerics.sequences import loaded_samples

if TYPE_CHECKING:
    from pathlib import Path

TYPES = {"x": TensorType(DType.F32, ("N", 3, 4, 4))}


def image(path: Path, height: int = 4, width: int = 4, mode: str = "RGB") -> np.ndarray[Any, Any]:
    from PIL import Image

    rng = np.random.default_rng(len(path.name))
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels = rng.integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def only(path: Path, **settings: Any) -> np.ndarray[Any, Any]:
    (sample,) = image_samples(ImageSettings.model_validate(settings), path, TYPES)
    found = sample["x"]
    assert isinstance(found, np.ndarray)
    return found


def test_pixels_become_numbers_between_zero_and_one(tmp_path: Path) -> None:
    pixels = image(tmp_path / "a.png")
    expected = (pixels.astype(np.float32) / 255).transpose(2, 0, 1)
    np.testing.assert_allclose(only(tmp_path / "a.png"), expected, atol=1e-7)


def test_every_setting(tmp_path: Path) -> None:
    pixels = image(tmp_path / "a.png", 6, 8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    found = only(
        tmp_path / "a.png",
        crop=4,
        channels="BGR",
        range=[-1, 1],
        mean=mean,
        std=std,
        layout="NHWC",
    )
    numbers = pixels[1:5, 2:6, ::-1].astype(np.float64) / 255 * 2 - 1
    np.testing.assert_allclose(found, (numbers - mean) / std, atol=1e-6)


@pytest.mark.parametrize(("resize", "shape"), [(6, (6, 9)), ([6, 5], (6, 5))])
def test_resizing(tmp_path: Path, resize: Any, shape: tuple[int, int]) -> None:
    image(tmp_path / "a.png", 4, 6)
    assert only(tmp_path / "a.png", resize=resize).shape == (3, *shape)


def test_integers_and_grey(tmp_path: Path) -> None:
    pixels = image(tmp_path / "a.png", mode="L")
    found = only(tmp_path / "a.png", channels="L", range=[0, 255], dtype="uint8")
    assert found.dtype == np.uint8
    assert np.array_equal(found[0], pixels)


@pytest.mark.parametrize(
    "settings", [{"mean": [0.1, 0.2]}, {"std": [0.0]}, {"layout": "CHW"}, {"sise": 3}]
)
def test_settings_that_do_not_go(settings: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImageSettings.model_validate(settings)


def test_a_folder_is_a_dataset(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "note.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            image(tmp_path / name)
    settings = ImageSettings()
    dataset = open_dataset(tmp_path, TYPES, source=lambda p, t: image_samples(settings, p, t))
    assert dataset.samples == 2
    batches = list(dataset.batches(8))
    assert [batch.start for batch in batches] == [0, 1]
    first = batches[0].feeds["x"]
    assert isinstance(first, np.ndarray)
    assert first.shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("settings", "reason"), [({"crop": 9}, "no middle"), ({"layout": "NHWC"}, "is of shape")]
)
def test_images_that_do_not_fit(tmp_path: Path, settings: Any, reason: str) -> None:
    image(tmp_path / "a.png")
    wanted = ImageSettings.model_validate(settings)
    dataset = open_dataset(tmp_path, TYPES, source=lambda p, t: image_samples(wanted, p, t))
    with pytest.raises(DataError, match=reason):
        list(dataset.batches())


def test_a_damaged_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read") as caught:
        only(tmp_path)
    assert caught.value.code == "data-unreadable"


def test_no_images_and_several_inputs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no images"):
        only(tmp_path)
    image(tmp_path / "a.png")
    with pytest.raises(DataError, match="2 inputs"):
        image_samples(ImageSettings(), tmp_path, {**TYPES, "y": TYPES["x"]})
    source = lambda p, t: image_samples(ImageSettings(), p, t)  # noqa: E731
    with pytest.raises(DataError, match="no labels"):
        open_dataset(tmp_path, TYPES, labels="label", source=source)


# ---- loaders -----------------------------------------------------------------------------------


def load(path: Path, *, count: int = 2, name: str = "x") -> list[dict[str, Any]]:
    """What a package would offer."""
    if count < 0:
        raise ValueError("a negative count")
    return [{name: np.full((3, 4, 4), i, np.float32)} for i in range(count)]


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "package:load", sequences.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: load)
    monkeypatch.setattr(sequences, "entry_points", lambda group: [point])


@pytest.mark.usefixtures("loader")
def test_an_entry_point_loads_samples(tmp_path: Path) -> None:
    def source(path: Path, types: Any) -> Any:
        return loaded_samples("mine", {"count": 3}, path, types)

    dataset = open_dataset(tmp_path, TYPES, source=source)
    assert dataset.samples == 3
    assert [float(np.asarray(b.feeds["x"]).max()) for b in dataset.batches()] == [0.0, 1.0, 2.0]


class OneBuffer(Sequence[Mapping[str, Any]]):
    """Samples of a loader that allocates once."""

    def __init__(self) -> None:
        self.buffer = np.zeros((3, 4, 4), np.float32)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        self.buffer[:] = index
        return {"x": self.buffer}


def test_a_loader_may_fill_one_buffer(tmp_path: Path) -> None:
    """Samples run abreast: the next one must not be written into the one that runs."""
    dataset = open_dataset(tmp_path, TYPES, source=lambda path, types: OneBuffer())
    batches = list(dataset.batches())
    assert [float(np.asarray(b.feeds["x"]).max()) for b in batches] == [0.0, 1.0, 2.0]


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("options", "reason"),
    [({"count": -1}, "a negative count"), ({"other": 1}, "TypeError"), ({"name": "z"}, "'z'")],
)
def test_loaders_that_fail(tmp_path: Path, options: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        list(
            open_dataset(
                tmp_path, TYPES, source=lambda p, t: loaded_samples("mine", options, p, t)
            ).batches()
        )


@pytest.mark.usefixtures("loader")
def test_an_unknown_loader(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="no installed package") as caught:
        loaded_samples("mime", {}, tmp_path, TYPES)
    assert caught.value.hint is not None
    assert "mine" in caught.value.hint


def test_other_inputs_are_filled(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    types = {**TYPES, "h": TensorType(DType.F32, ("N", 2))}
    hints = InputHints(ranges={"h": (0.0, 0.0)})
    source = lambda p, t: image_samples(ImageSettings(), p, t)  # noqa: E731
    (batch,) = open_dataset(tmp_path, types, hints=hints, source=source).batches()
    assert np.asarray(batch.feeds["h"]).shape == (1, 2)
