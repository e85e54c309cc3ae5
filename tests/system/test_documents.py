"""YAML and JSON that somebody else wrote: plain values, or one error that says where; never a hang."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from flan_lora.system.documents import MAX_DEPTH, MAX_YAML_CHARACTERS, DocumentError, parse_json, parse_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]\n"
    for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3: 'a' stands twice, first in line 1"),
        ("a: {b: 1,\n  b: 2}", r"line 2: 'b' stands twice, first in line 1"),
        ("a: 2024-01-01", r"line 1: a value that is a date"),
        ("a: 2024-01-01 10:00:00", r"line 1: a value that is a date"),
        ("\na: !!set {x, y}", r"line 2: a value that is a set"),
        ("a: !!binary aGk=", r"line 1: a value that is bytes"),
        ("a: !!omap [x: 1]", r"line 1: a value that is an ordered map"),
        ("a: !!python/object/apply:os.getcwd []", r"line 1: a value that is of the type '.*os.getcwd'"),
        ("a: !mine 3", r"of the type '!mine'"),
        ("a: =", r"line 1: a value"),
        ("1: a", r"the key 1 is no text"),
        ("null: a", r"the key None is no text"),
        ("on: a", r"the key True is no text"),
        ("? [a, b]\n: c", r"line 1: the key \['a', 'b'\] is no text"),
        ("a: .inf", "not finite"),
        ("a: .nan", "not finite"),
        ("a: " + "9" * 300, "does not fit 64 bits"),
        ("a: " + "9" * 5000, "a number of 5,000 characters"),
        ("a: " + ":".join("1" * 20_000), "a number of 39,999 characters"),
        ("a: !!int ''", "line 1: '' is no int"),
        ("a: !!float x", "line 1: 'x' is no float"),
        ("a: !!bool x", "line 1: 'x' is no bool"),
        ('a: "\\ud83d"', "half of a surrogate pair"),
        ('"\\udc00": a', "half of a surrogate pair"),
        ("a: \x07", "special characters"),
        ("a: *b", "undefined alias"),
        ("<<: 3", "'<<' takes mappings"),
        ("--- 1\n--- 2", "expected a single document"),
        ("a: [1", "expected"),
        ("a: &a [*a]", f"line 1: nested more than {MAX_DEPTH} deep"),
        ("a: &a {b: *a}", f"nested more than {MAX_DEPTH} deep"),
        ("a: &a {<<: *a}", f"nested more than {MAX_DEPTH} deep"),
        ("[" * 50_000, f"line 1: nested more than {MAX_DEPTH} deep"),
        ("{a: " * 20_000, f"nested more than {MAX_DEPTH} deep"),
        (BOMB, "over 5,000 values"),
        ("- a\n" * 20_000, "over 5,000 values"),
        ("#" * (MAX_YAML_CHARACTERS + 1), "at most 100,000 are read"),
    ],
    ids=lambda value: value[:24],
)
def test_yaml_that_is_no_plain_values_is_refused_with_its_place_and_soon(text: str, problem: str) -> None:
    start_s = time.process_time()
    with pytest.raises(DocumentError, match=problem):
        parse_yaml(text)
    assert time.process_time() - start_s < 20, "seconds on any machine; the bomb stands for 9^9 values"


def test_all_problems_of_a_document_are_told_at_once() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_yaml("a: 1\na: 2\nb: 2024-01-01\n3: c\n")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\nb: [1, 2.5, yes, ~, 'x: y', 1e-4, 3.0e-4]\nc: {d: {e: |\n   two\n   lines\n}}",
        "base: &base {model: mini, revision: null}\nother: *base\nthird: {<<: *base, model: x}",
        "a: &a {q: 1}\nb: &b {q: 2, r: 3}\nc: {<<: [*a, *b], s: 4}",
        "text: 'half a million \N{GRINNING FACE}, \\ud83d'",
        "- [a, b]\n- {c: d}\n",
    ],
)
def test_plain_yaml_reads_as_pyyaml_reads_it(text: str) -> None:
    text = text.replace("\n}}", "}}") if "|" not in text else "c: |\n  two\n  lines\n"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_depth_counts_levels() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(deep) == parse_json(deep) == json.loads(deep)
    for parse in (parse_yaml, parse_json):
        with pytest.raises(DocumentError, match="deep"):
            parse(f"[{deep}]")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"b": {"a": 1, "c": 0, "a": 2}}', "'a' stands twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ("[-Infinity]", "-Infinity is no number of JSON"),
        ("1e999", "not finite"),
        ("9" * 100, "does not fit 64 bits"),
        ("9" * 5000, "digits"),
        ('"\\ud83d"', "half of a surrogate pair"),
        ('{"\\ud83d": 1}', "half of a surrogate pair"),
        (b'"\xff"', "can't decode byte 0xff"),
        ("[" * 200_000, "deep"),
        ('{"a":' * 200_000, "deep"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_json_that_is_no_plain_values_is_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        parse_json(text)


def test_plain_json_reads_as_json_does() -> None:
    value = {"a": [1, 2.5, True, None, "\N{GRINNING FACE}"], "b": {"c": -(2**63) + 1}}
    assert parse_json(json.dumps(value)) == parse_json(json.dumps(value).encode()) == value
