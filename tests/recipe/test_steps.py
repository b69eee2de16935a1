"""Steps: their forms, and passes of other distributions."""

from importlib.metadata import EntryPoint

import pytest

from optc.errors import RecipeError
from optc.passes.base import Pass
from optc.recipe import Step, known_passes, resolve_pipeline


def test_the_forms_of_a_step_mean_the_same() -> None:
    forms: list[object] = ["remove-dead", {"remove-dead": None}, {"remove-dead": {}}]
    steps = resolve_pipeline(forms)
    assert steps == (steps[0],) * 3
    assert steps[0].name == "remove-dead"


@pytest.mark.parametrize("pipeline", [None, "fp32", {"preset": "fp32"}])
def test_a_preset_can_be_named(pipeline: str | dict[str, object] | None) -> None:
    assert [step.name for step in resolve_pipeline(pipeline)] == ["fold-constants", "remove-dead"]


def test_a_list_may_hold_a_preset() -> None:
    steps = resolve_pipeline(["quantize-int8", {"preset": "fp32"}, "remove-dead"])
    assert [step.name for step in steps] == [
        "quantize-int8",
        "fold-constants",
        "remove-dead",
        "remove-dead",
    ]


def test_a_preset_in_a_list_says_what_is_wrong_with_it() -> None:
    wrong = [{"preset": "fp23"}, {"preset": 3}, {"preset": "fp32", "when": "vnni"}, "remove-dead"]
    with pytest.raises(RecipeError) as caught:
        resolve_pipeline(wrong)
    assert [str(problem) for problem in caught.value.problems] == [
        "<recipe>: pipeline[0].preset: unknown preset 'fp23'; allowed: fp32, int8, bf16, int8-bf16"
        "\n  did you mean 'fp32'?",
        "<recipe>: pipeline[1].preset: found 3 (an integer); expected a list of steps, or "
        "{preset: NAME}",
        "<recipe>: pipeline[2].when: unknown key 'when'; allowed: preset"
        "\n  steps are a list: begin each with '-'",
    ]


def test_no_steps_are_fine() -> None:
    assert resolve_pipeline([]) == ()


def test_a_wrong_pipeline_says_where() -> None:
    with pytest.raises(RecipeError) as caught:
        resolve_pipeline(["remove-ded", {"fold-constants": {"max_growth": "2"}}])
    assert [str(problem) for problem in caught.value.problems] == [
        "<recipe>: pipeline[0]: unknown pass 'remove-ded'\n  did you mean 'remove-dead'?",
        "<recipe>: pipeline[1].fold-constants.max_growth: found '2' (a string); "
        "expected a number, at least 0\n  remove the quotes",
    ]


def test_a_step_makes_its_pass_with_its_options(passes: tuple[type[Pass], ...]) -> None:
    (step,) = resolve_pipeline([{"fold-constants": {"max_growth": 3}}])
    made = step.create()
    assert type(made) is passes[0]
    assert made.options.model_dump()["max_growth"] == 3.0


def test_steps_are_frozen_and_compare_by_content() -> None:
    first, second = resolve_pipeline(["remove-dead", {"remove-dead": {}, "when": "vnni"}])
    assert first != second
    assert first == Step("remove-dead", first.options)
    with pytest.raises(AttributeError):
        first.name = "other"  # type: ignore[misc]  # that it is refused is the point


class Extra(Pass):
    """A pass of somebody else."""

    name = "extra"


class Thief(Pass):
    """A pass with a name that is taken."""

    name = "remove-dead"


NOT_A_PASS = object()


class _Distribution:
    """As much of a distribution as an entry point shows."""

    version = "1.0"

    def __init__(self, name: str) -> None:
        self.name = name


class TestThirdParty:
    """Passes of other distributions, by the entry-point group ``optc.passes``."""

    def install(self, monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
        points = []
        for number, value in enumerate(values):
            point = EntryPoint(name=f"p{number}", value=value, group="optc.passes")
            vars(point).update(dist=_Distribution(f"acme-{number}"))
            points.append(point)
        monkeypatch.setattr("optc.recipe.steps.entry_points", lambda group: points)

    def here(self, name: str) -> str:
        return f"{__name__}:{name}"

    def test_they_are_steps_like_all_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(monkeypatch, self.here("Extra"))
        assert list(known_passes()) == ["fold-constants", "quantize-int8", "remove-dead", "extra"]
        assert resolve_pipeline(["extra"])[0].pass_type.name == "extra"

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["Thief"], "pass 'remove-dead' is defined by optc and by acme-0 1.0"),
            (["Extra", "Extra"], "pass 'extra' is defined by acme-0 1.0 and by acme-1 1.0"),
        ],
    )
    def test_a_name_belongs_to_one(
        self, names: list[str], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.install(monkeypatch, *map(self.here, names))
        with pytest.raises(RecipeError, match=message):
            known_passes()

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("no.such.module:X", "acme-0 1.0 does not load: No module named 'no'"),
            (f"{__name__}:Missing", "acme-0 1.0 does not load: .*has no attribute 'Missing'"),
            (f"{__name__}:NOT_A_PASS", "acme-0 1.0 is not a subclass of optc.passes.base.Pass"),
        ],
    )
    def test_what_does_not_load_is_named(
        self, value: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.install(monkeypatch, value)
        with pytest.raises(RecipeError, match=message):
            known_passes()
