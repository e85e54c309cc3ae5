"""No shipped adapter loops: a run of four words stands twice in fewer than one answer of a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from flan_lora.adapters.store import Store
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import load_split
from flan_lora.samples import SAMPLES_PATH
from flan_lora.serving.router import Router
from flan_lora.tasks.normalise import repeats
from flan_lora.tasks.task import Inputs

WRITERS = ("summarization", "paraphrase", "question-generation", "qa")
MAX_SHARE = 0.01


@pytest.fixture(scope="module")
def router(repo: Path) -> Router:
    return Router.open(repo / "adapters" / "mini")


def inputs_of(repo: Path, name: str, source: DataSource, num_rows: int) -> list[Inputs]:
    """Inputs of test rows, then of validation rows where there are fewer."""
    recipe = Store(repo / "adapters" / "mini").open(name).recipe
    found = [
        example.inputs for role in ("test", "validation") for example in load_split(recipe, role, source).examples
    ]
    return found[:: max(1, len(found) // num_rows)][:num_rows]


def looping_share(router: Router, name: str, inputs: list[Inputs]) -> float:
    answers = [answer.text for answer in router.generate(inputs, name)]
    return sum(map(repeats, answers)) / len(answers)


@pytest.mark.parametrize("name", WRITERS)
def test_answers_to_bundled_rows_do_not_loop(repo: Path, router: Router, name: str) -> None:
    inputs = inputs_of(repo, name, DataSource("sample", SAMPLES_PATH), 12)
    assert len(inputs) == 12
    assert looping_share(router, name, inputs) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_fewer_than_one_of_a_hundred_answers_to_real_rows_loops(
    repo: Path, router: Router, name: str, shared_data: Path
) -> None:
    inputs = inputs_of(repo, name, DataSource("local", shared_data), 200)
    assert len(inputs) == 200
    assert looping_share(router, name, inputs) < MAX_SHARE


@pytest.mark.parametrize(
    ("text", "is_loop"),
    [
        ("he is in the house and he is in the house", True),
        ("He is in the house and he IS IN THE car", True),
        ("he is in a house and he is in the house", False),
        ("no no no no", False),
        ("no no no no no", True),
        ("", False),
    ],
)
def test_a_loop_is_four_words_that_come_again(text: str, is_loop: bool) -> None:
    assert repeats(text) is is_loop
