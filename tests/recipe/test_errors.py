"""Every message a wrong recipe can give, as text files that a reviewer can read."""

from pathlib import Path

import pytest

from optc.errors import RecipeError
from optc.recipe import load_recipe

CASES = Path(__file__).parent / "errors"


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_message(case: str, monkeypatch: pytest.MonkeyPatch, update_golden: bool) -> None:
    folder = CASES / case
    overrides = folder / "overrides.txt"
    expected = folder / "expected.txt"
    monkeypatch.chdir(folder)  # so that messages hold paths as a user would see them
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            "recipe.yaml",
            overrides=overrides.read_text().splitlines() if overrides.exists() else (),
        )
    text = f"{caught.value}\n"
    if update_golden:
        expected.write_text(text)
    assert text == expected.read_text()


def test_problems_are_also_data() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            {
                "pipeline": [],
                "schema_version": 1,
                "model": "x.onnx",
                "targets": ["clx"],
                "launch": [0],
            }
        )
    (problem,) = caught.value.problems
    assert problem.to_dict() == {
        "code": "wrong-type",
        "path": "launch",
        "message": "found a list of 1; expected a mapping with mode, batch, instances, cores, "
        "topology, runtime_version, allocator, precision, service",
        "file": None,
        "line": 0,
        "column": 0,
        "hint": None,
    }
