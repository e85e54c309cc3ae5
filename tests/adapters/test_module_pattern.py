"""Regular expressions of target_modules: the answers of `re`, and none that takes for ever."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.adapters.lora_config import is_target, module_rank, module_scaling, read_config
from flan_lora.adapters.module_pattern import module_pattern
from flan_lora.errors import AdapterError

MODULES = [
    f"{stack}.block.{block}.layer.{layer}.{linear}"
    for stack in ("encoder", "decoder")
    for block in (0, 7, 11)
    for layer, linear in ((0, "SelfAttention.q"), (1, "EncDecAttention.v"), (2, "DenseReluDense.wi_0"))
]
NAMES = [*MODULES, "", "q", "Q", "aab", "e.q", "x" * 60]
EXPRESSIONS = [
    r".*\.(q|v)$",
    r".*block\.(0|7|1[0-9])\..*\.q",
    r"(?:.*\.)?block\.(?:0|[1-9])\..*\b(?:q|v|wi_[01])",
    r"encoder(\.\w+)*\.q",
    r"(\w+\.)*q",
    r"encoder|decoder.*",
    r"(?i).*SELFATTENTION.*",
    r"(?i:ENC).*",
    r"(?=.*\.q).*",
    r"(?!encoder).*",
    r".*(?<=\.)q",
    r".*(?<!n\.)[qv]",
    r"[a-z.\d]+[A-Z][^\W\d]+.*",
    r"\Aenc.*\Z",
    r"(?x) enc .* # a comment",
    r"(a?){3,}b|a{2}b",
    r"(|a)+b",
    r"(^a|b$)*",
    r"\D*",
    r"",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_answers_are_those_of_re(expression: str) -> None:
    pattern = module_pattern(expression)
    whole = [re.fullmatch(expression, name) is not None for name in NAMES]
    assert [pattern.fullmatch(name) for name in NAMES] == whole
    assert [pattern.match(name) for name in NAMES] == [re.match(expression, name) is not None for name in NAMES]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_position_sets_answer_as_re_does(expression: str) -> None:
    """Those that `re` answers itself, too: on a name that is longer than it is asked for."""
    long = "encoder.block." + "0." * 40 + "SelfAttention.q"
    assert module_pattern(expression).fullmatch(long) == (re.fullmatch(expression, long) is not None)
    assert module_pattern(expression).match(long) == (re.match(expression, long) is not None)


PARTS = st.sampled_from(["a", "b", ".", r"\.", "[ab]", "[^a]", r"\w", "^", "$", r"\b", "(?=a)", "(?<=b)"])
expressions = st.recursive(
    PARTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
        st.lists(inner, min_size=2, max_size=3).map(lambda ways: f"({'|'.join(ways)})"),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(expressions, st.text("ab.", max_size=6))
def test_any_expression_answers_as_re_does(expression: str, name: str) -> None:
    padded = name + "." * 70  # past the length where `re` is asked
    for text in (name, padded[:71]):
        if text is name or len(expression) < 12:  # `re` itself must end
            assert module_pattern(expression).fullmatch(text) == (re.fullmatch(expression, text) is not None)


@pytest.mark.parametrize(
    "expression",
    ["(a+)+b", "(a|a)*b", "(a|aa)+$b", "(.*)*b", "((a*)*)*b", "(?:a?){40}a{40}b", r"(\w+\.?)+b", "(?=(a+)+b).*"],
)
def test_what_backtracks_for_ever_is_answered(expression: str) -> None:
    start_s = time.process_time()
    assert not module_pattern(expression).fullmatch("a" * 60)
    assert time.process_time() - start_s < 20


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("a**", "is no regular expression: multiple repeat"),
        ("((", "is no regular expression: missing"),
        ("a{99999999999999999999}", "is no regular expression"),
        (r"(a)\1", "has a backreference"),
        ("(a)?(?(1)b|c)", "has a condition on a group"),
        ("(" * 300 + "a" + ")" * 300, "nested over 40 deep|no regular expression"),
        ("a" * 2001, "has 2,001 characters"),
        (".*" * 900 + "y", "takes too long to match"),
        ("|".join(["x*x*x*x*y"] * 180), "takes too long to match"),
    ],
    ids=lambda value: value[:20],
)
def test_what_cannot_be_matched_soon_is_refused_in_one_line(expression: str, problem: str) -> None:
    with pytest.raises(AdapterError, match=problem) as caught:
        module_pattern(expression).fullmatch("x" * 70)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_patterns_mean_what_they_mean_to_peft() -> None:
    """The first that fits the end of the path; a plain name stands for whole parts of it."""
    from peft.utils.other import get_pattern_key

    config = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": "x",
        "rank_pattern": {"block.0.*": 2, "q": 3, r"layer\.\d\.(EncDec|Self)Attention.v": 5, "wi_0": 6},
        "alpha_pattern": {"decoder.*q": 16, "on.q": 1},
    }
    for module in MODULES:
        rank = config["rank_pattern"].get(get_pattern_key(config["rank_pattern"], module), 4)
        alpha = config["alpha_pattern"].get(get_pattern_key(config["alpha_pattern"], module), 8)
        assert (module_rank(module, config), module_scaling(module, config)) == (rank, alpha / rank)


def test_target_modules_mean_what_they_mean_to_peft() -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    for targets in (["q", "wi_0"], ["SelfAttention.q"], ["on.q"], *EXPRESSIONS[:4]):
        config = LoraConfig(target_modules=targets)
        for module in MODULES:
            wanted = bool(check_target_module_exists(config, module))
            assert is_target(module, {"target_modules": targets}) == wanted


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", "true"),
        ("r", "0"),
        ("r", '"8"'),
        ("r", "1e3"),
        ("r", "100000"),
        ("lora_alpha", "NaN"),
        ("lora_alpha", "1e30"),
        ("lora_alpha", "1e999"),
        ("lora_alpha", "true"),
        ("lora_alpha", '"16"'),
        ("lora_alpha", "[]"),
        ("target_modules", "{}"),
        ("target_modules", "[]"),
        ("target_modules", "7"),
        ("target_modules", "[1]"),
        ("target_modules", '[["q"]]'),
        ("target_modules", '"(("'),
        ("target_modules", '"' + "x" * 3000 + '"'),
        ("rank_pattern", "[]"),
        ("rank_pattern", '{"q": "x"}'),
        ("rank_pattern", '{"((": 2}'),
        ("alpha_pattern", '{"q": 1e30}'),
        ("use_rslora", '"no"'),
        ("use_dora", "1"),
        ("x", "[" * 100 + "]" * 100),
        ("x", '1, "x": 2'),
    ],
    ids=lambda value: value[:16],
)
def test_fields_of_a_config_that_mean_nothing_are_named(field: str, value: str) -> None:
    sound = {"r": "4", "lora_alpha": "8", "target_modules": '["q"]'}
    fields = {**sound, field: value}
    text = "{" + ", ".join(f'"{name}": {shape}' for name, shape in fields.items()) + "}"
    problems = read_config(text.encode())[1]
    assert problems and all(line.startswith("adapter_config.json: ") and len(line) < 600 for line in problems)
    good = "{" + ", ".join(f'"{name}": {shape}' for name, shape in sound.items()) + ', "use_rslora": null}'
    assert read_config(good.encode())[1] == []
