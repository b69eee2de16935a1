"""Arrays on disk: reading by rows, and every kind of damage."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from optc.errors import DataError
from optc.numerics.npyfile import npz_keys, open_array

ROWS = np.arange(24, dtype=np.float32).reshape(6, 2, 2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, x=ROWS, y=np.array(3))
    return path


def test_the_arrays_of_an_npz_are_listed_in_order(saved: Path) -> None:
    assert npz_keys(saved) == ["x", "y"]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 6, 100])
def test_members_are_read_by_rows(tmp_path: Path, compress: bool, rows: int) -> None:
    path = tmp_path / "data.npz"
    save = np.savez_compressed if compress else np.savez
    save(path, x=ROWS)
    blocks = list(open_array(path, "x").blocks(rows))
    assert [len(block) for block in blocks][:-1] == [rows] * (len(blocks) - 1)
    assert np.array_equal(np.concatenate(blocks), ROWS)


def test_a_header_tells_shape_and_type(saved: Path) -> None:
    found = open_array(saved, "x")
    assert found.shape == (6, 2, 2)
    assert found.label == "float32[6,2,2]"


def test_column_major_arrays_have_the_same_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(ROWS))
    found = open_array(tmp_path / "x.npy")
    assert found.fortran
    assert np.array_equal(np.concatenate(list(found.blocks(4))), ROWS)


def test_empty_arrays_have_rows_without_elements(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 0), np.float32))
    assert [block.shape for block in open_array(tmp_path / "x.npy").blocks(2)] == [(2, 0), (1, 0)]


def test_only_the_rows_asked_for_are_in_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1000, 1000)))
    block = next(open_array(tmp_path / "x.npy").blocks(2))
    assert block.base is not None
    assert block.nbytes == 16000


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    body = text.encode().ljust(117) + b"\n"
    size = len(body).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + body


VALID = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOF: reading magic string"),
        (b"hello world", "the magic string is not correct"),
        (header(VALID), "needs 8 bytes more than there are"),
        (header(VALID.replace("2", "10**9")), "malformed"),
        (header(VALID.replace("2", "1000000000000")), "needs 4000000000000 bytes more"),
        (header("{'descr': '<f4'}"), "Header does not contain the correct keys"),
        (header(VALID, (3, 0)), "NPY version 3.0 holds no plain arrays"),
        (header(VALID, (9, 0)), "NPY version 9.0 holds no plain arrays"),
    ],
)
def test_damaged_files_are_clear_errors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_array(path)
    assert caught.value.code == "data-unreadable"
    assert caught.value.location == str(path)
    assert caught.value.hint == "the file is damaged or incomplete: write or copy it again"


def test_a_file_that_shrinks_is_noticed_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ROWS)
    found = open_array(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="the data ends 4 bytes early"):
        list(found.blocks(4))


@pytest.mark.parametrize("cut", [10, 100, 300])
def test_a_truncated_npz_is_a_clear_error(saved: Path, cut: int) -> None:
    saved.write_bytes(saved.read_bytes()[:-cut])
    with pytest.raises(DataError, match="the file cannot be read") as caught:
        npz_keys(saved)
    assert caught.value.code == "data-unreadable"


def test_flipped_bytes_in_a_member_are_noticed(saved: Path) -> None:
    raw = bytearray(saved.read_bytes())
    raw[raw.index(ROWS.tobytes()) + 5] ^= 0xFF
    saved.write_bytes(raw)
    with pytest.raises(DataError, match="array 'x' cannot be read: Bad CRC-32"):
        list(open_array(saved, "x").blocks(6))


def test_python_objects_are_refused_without_being_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a pickle was loaded",))

    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError, match="array 'x' holds Python objects") as caught:
        open_array(path, "x")
    assert caught.value.code == "data-object-array"


def test_an_encrypted_or_unknown_member_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    buffer = io.BytesIO()
    np.save(buffer, ROWS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1  # the flag that says encrypted
    path.write_bytes(raw)
    with pytest.raises(DataError, match="encrypted"):
        open_array(path, "x")
