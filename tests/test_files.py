"""Single files: replaced as a whole, or left as they were."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from optc.errors import OutputError
from optc.files import check_place, replacing_file, write_text

if TYPE_CHECKING:
    from pathlib import Path


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing_file(path) as file:
        file.write("né".encode())
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "né"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with replacing_file(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_moves_into_place(tmp_path: Path) -> None:
    draft, path = tmp_path / "draft", tmp_path / "a.bin"
    draft.write_bytes(b"content")
    with replacing_file(path, draft):
        pass
    assert path.read_bytes() == b"content"
    assert not draft.exists()


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[str] = []
    listener = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    listener.start()
    write_text(pipe, "through the pipe")
    listener.join(10)
    assert heard == ["through the pipe"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("place", ["none/a.txt", "folder"])
def test_places_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError) as info:
        write_text(tmp_path / place, "text", hint="choose another place")
    assert info.value.code == "output-unwritable"
    assert info.value.location == str(tmp_path / place)
    assert info.value.hint == "choose another place"
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("place", "reason"), [("", "it is a folder"), ("none/a.txt", "its folder does not exist")]
)
def test_places_are_refused_before_the_work(place: str, reason: str, tmp_path: Path) -> None:
    check_place(tmp_path / "new.txt")
    with pytest.raises(OutputError, match=reason):
        check_place(tmp_path / place)
