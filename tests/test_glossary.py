"""The glossary: few words, in order, and each of them a name in the code."""

from __future__ import annotations

import io
import re
import tokenize
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| ([^|]+) \| `([^`|]+)` \| ([^|]+) \|$", re.MULTILINE)


@cache
def names_in_the_code() -> set[str]:
    """Every identifier, and the module names."""
    names = {path.stem for path in (REPO / "flan_lora").rglob("*.py")}
    names |= {path.name for path in (REPO / "flan_lora").iterdir()}
    for path in (REPO / "flan_lora").rglob("*.py"):
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
        names |= {token.string for token in tokens if token.type == tokenize.NAME}
    return names


def test_every_word_of_the_glossary_is_a_name_in_the_code() -> None:
    text = (REPO / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = ROW.findall(text)
    assert len(rows) == text.count("\n| ") - 2, "a row that the table's pattern does not read"
    words = [word for word, _, _ in rows]
    assert 10 <= len(words) <= 25 and words == sorted(words) and len(set(words)) == len(words)
    assert [name for _, name, _ in rows if name not in names_in_the_code()] == []


def test_what_we_call_by_the_fields_word_is_not_called_otherwise() -> None:
    """Words that were given up for those of vLLM, PEFT and transformers."""
    former = {
        "Contest",
        "Contestant",
        "Duel",
        "Wording",
        "Specimen",
        "Cohort",
        "Seats",
        "Signature",
        "Outcome",
    }
    assert former & names_in_the_code() == set()
