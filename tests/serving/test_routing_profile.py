"""Routing profiles: own texts against background texts, thresholds, files of both formats, and false accepts."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flan_lora.errors import AdapterCorruptError, DataError
from flan_lora.samples import SAMPLES_PATH
from flan_lora.serving.background import BUNDLED, BackgroundText, read_background
from flan_lora.serving.router import Router
from flan_lora.serving.routing_profile import (
    OLD_PROFILE,
    PROFILE,
    GaussianProfile,
    RoutingProfile,
    fit,
    read_profile,
    write_profile,
)
from flan_lora.serving.routing_report import FOREIGN, report
from flan_lora.serving.text_features import NUM_FORM, TextFeatures, form

ADAPTERS = Path(__file__).parents[2] / "adapters" / "mini"
FINGERPRINT = "f" * 64


def texts_at(num: int, centre: float, *, seed: int, width: int = 16, spread: float = 1.0) -> TextFeatures:
    """Features of texts that lie around one place."""
    generator = torch.Generator().manual_seed(seed)
    words, states, counts = (
        centre + spread * torch.randn(num, size, generator=generator) for size in (width, width, NUM_FORM)
    )
    return TextFeatures(words, states, counts)


def accepted(profile: RoutingProfile, features: TextFeatures) -> float:
    return (profile.score(features) >= profile.threshold).float().mean().item()


def test_texts_like_the_adapters_own_are_accepted_and_texts_like_the_background_are_not() -> None:
    profile = fit(texts_at(200, 1.0, seed=0), texts_at(200, -1.0, seed=1), FINGERPRINT, reject_share=0.05)
    assert accepted(profile, texts_at(400, 1.0, seed=2)) > 0.9
    assert accepted(profile, texts_at(400, -1.0, seed=3)) < 0.01
    assert profile.score(texts_at(400, -1.0, seed=3)).mean().item() < -1  # a linear scale: 2 between the sides


def test_a_text_beyond_the_adapters_own_is_rejected_although_it_is_far_from_the_background() -> None:
    """A linear classifier of the features alone would be the surer of a text the farther it lies off."""
    own, background = texts_at(200, 1.0, seed=0), texts_at(100, -1.0, seed=1)
    both_sides = TextFeatures.cat([background, texts_at(20, 6.0, seed=4)])
    beyond = texts_at(100, 9.0, seed=5)
    assert accepted(fit(own, both_sides, FINGERPRINT), beyond) == 0.0


def test_a_threshold_gives_up_the_share_it_is_asked_to() -> None:
    own, background = texts_at(4000, 0.2, seed=0), texts_at(500, 0.0, seed=1)
    assert accepted(fit(own, background, FINGERPRINT, reject_share=0.1), own) == pytest.approx(0.9, abs=0.03)
    assert accepted(fit(own, background, FINGERPRINT, reject_share=0.4), own) == pytest.approx(0.6, abs=0.03)


def test_a_threshold_is_not_taken_from_texts_that_were_fitted_on() -> None:
    """Of few texts in many dimensions, those lie so well apart that most of the unseen ones would be given up."""
    own, background = texts_at(400, 0.05, seed=0, width=512), texts_at(300, 0.0, seed=1, width=512)
    unseen = texts_at(2000, 0.05, seed=2, width=512)
    assert accepted(fit(own, background, FINGERPRINT, reject_share=0.1), unseen) > 0.8
    assert accepted(fit(own, background, FINGERPRINT, own, reject_share=0.1), unseen) < 0.5


def test_a_threshold_is_calibrated_on_validation_texts() -> None:
    own, background = texts_at(300, 1.0, seed=0), texts_at(300, -1.0, seed=1)
    unseen = texts_at(400, 0.5, seed=2, spread=1.5)
    assert accepted(fit(own, background, FINGERPRINT, unseen, reject_share=0.1), unseen) == pytest.approx(0.9)
    assert accepted(fit(own, background, FINGERPRINT, reject_share=0.1), unseen) < 0.8


@pytest.mark.parametrize("kind", ["training", "background", "validation"])
def test_too_few_texts_of_a_kind_are_named(kind: str) -> None:
    texts = {name: texts_at(25, 0.0, seed=0) for name in ("training", "background", "validation")}
    texts[kind] = texts[kind][:5]
    with pytest.raises(DataError, match=rf"20 texts or more \(got 5 {kind} texts\)"):
        fit(texts["training"], texts["background"], FINGERPRINT, texts["validation"])


def test_a_feature_that_never_varies_among_few_texts_leaves_the_profile_finite() -> None:
    own = texts_at(30, 0.0, seed=0)
    own.form[:, 3] = 0.0
    own.states[:, 2] = 1.0
    profile = fit(own, texts_at(30, 1.0, seed=1), FINGERPRINT)
    assert profile.weights.isfinite().all() and profile.score(own).isfinite().all()


# The form of a text


@pytest.mark.parametrize("body", ["", " ", "?", "a", "Two words.", "नमस्ते दुनिया", "x = 1\n" * 50])
def test_every_body_has_a_form_of_finite_counts(body: str) -> None:
    assert len(form(body)) == NUM_FORM
    assert torch.tensor(form(body)).isfinite().all()


def test_the_form_tells_sentences_case_and_figures() -> None:
    one, two = form("The mill burnt down in 1834"), form('The mill burnt down. "It was old," he said.')
    assert one[1] == 0.0 and two[1] == pytest.approx(0.6931, abs=1e-4)  # log1p of sentences that have ended
    assert one[4] == pytest.approx(4 / 27) and two[4] == 0.0
    assert (one[13], one[14]) == (1.0, 0.0) and (two[13], two[14]) == (1.0, 1.0)


# Files


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    profile = fit(texts_at(50, 1.0, seed=0), texts_at(50, -1.0, seed=1), FINGERPRINT)
    (tmp_path / OLD_PROFILE).write_bytes(b"older")
    write_profile(tmp_path, profile)
    again = read_profile(tmp_path)
    assert isinstance(again, RoutingProfile) and again.fingerprint == FINGERPRINT
    features = texts_at(9, 0.3, seed=2)
    assert torch.equal(again.score(features), profile.score(features))
    assert not (tmp_path / OLD_PROFILE).exists(), "two profiles of one adapter could disagree"


@pytest.mark.parametrize("name", [OLD_PROFILE, PROFILE])
def test_a_profile_of_the_first_format_is_read_and_scores_as_before(tmp_path: Path, name: str) -> None:
    mean, variance = torch.linspace(-1, 1, 16), torch.linspace(0.5, 2, 16)
    metadata = {"threshold": json.dumps(-0.75), "fingerprint": FINGERPRINT}
    save_file({"mean": mean, "variance": variance}, tmp_path / name, metadata=metadata)
    profile = read_profile(tmp_path)
    assert isinstance(profile, GaussianProfile)
    assert (profile.threshold, profile.fingerprint, profile.format_version) == (-0.75, FINGERPRINT, 1)
    features = texts_at(5, 0.0, seed=0)
    gaussian = torch.distributions.Normal(mean, variance.sqrt()).log_prob(features.states).mean(dim=1)
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(profile.score(features), gaussian + constant)


def damage_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def damage_version(path: Path) -> None:
    save_file(load_file(path), path, {"format_version": "9", "form_version": "1", "fingerprint": FINGERPRINT})


def damage_shape(path: Path) -> None:
    tensors = load_file(path)
    tensors["weights"] = tensors["weights"][:-1].clone()
    save_file(tensors, path, {"format_version": "2", "form_version": "1", "fingerprint": FINGERPRINT})


def damage_values(path: Path) -> None:
    tensors = load_file(path)
    tensors["weights"][0] = float("nan")
    save_file(tensors, path, {"format_version": "2", "form_version": "1", "fingerprint": FINGERPRINT})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_bytes, "is not a routing profile"),
        (damage_version, "it has format 9 and form 1, this version reads 2 and 1"),
        (damage_shape, "do not fit each other"),
        (damage_values, "not finite"),
    ],
)
def test_a_damaged_profile_is_refused_with_the_next_step(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    write_profile(tmp_path, fit(texts_at(50, 1.0, seed=0), texts_at(50, -1.0, seed=1), FINGERPRINT))
    damage(tmp_path / PROFILE)
    with pytest.raises(AdapterCorruptError, match=words) as refused:
        read_profile(tmp_path)
    assert PROFILE in str(refused.value) and "fit it again" in str(refused.value)


# Background texts


def test_the_bundled_background_has_many_kinds_and_none_of_the_reports_texts() -> None:
    texts = read_background()
    kinds = {item.kind for item in texts}
    assert len(texts) == 314 and len(kinds) == 35
    assert all(sum(item.kind == kind for item in texts) >= 5 for kind in kinds)
    assert len({item.text for item in texts}) == len(texts)
    assert not {item.text for item in texts} & set(FOREIGN), "what is fitted on says nothing about the unseen"


def test_a_file_of_ones_own_has_a_text_a_line_or_json_lines(tmp_path: Path) -> None:
    plain, rows = tmp_path / "plain.txt", tmp_path / "rows.jsonl"
    plain.write_text("one\n\n  two \n", "utf-8")
    rows.write_text('{"text": "eins\\nzwei", "kind": "lists"}\n{"text": "drei"}\n', "utf-8")
    assert read_background(plain) == [BackgroundText("one"), BackgroundText("two")]
    assert read_background(rows) == [BackgroundText("eins\nzwei", "lists"), BackgroundText("drei")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", r"line 2: got \[1\]"),
        ('{"text": 5}', "line 2: got"),
        ('{"text": " "}', "line 2: got"),
        ('{"text": "a", "kind": 3}', "line 2: got"),
    ],
)
def test_a_line_that_is_no_text_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{line}\n', "utf-8")
    with pytest.raises(DataError, match=words):
        read_background(path)


def test_a_file_without_text_or_not_in_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("\n \n")
    with pytest.raises(DataError, match="has no text"):
        read_background(path)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="cannot be read"):
        read_background(path)


# The shipped adapters on their base, and a fit like a user's


def sample_texts(folder: str, column: str, split: str) -> list[str]:
    lines = (SAMPLES_PATH / folder / f"{split}.jsonl").read_text("utf-8").splitlines()
    return [row[column] for row in map(json.loads, lines)]


def test_the_shipped_profiles_know_their_own_kinds_and_leave_foreign_ones() -> None:
    """A small version of the log's table, on texts that are in no real data set; the shares there are measured."""
    router = Router.open(ADAPTERS, "mini")
    own = {
        "emotion": sample_texts("dair-ai__emotion/split", "text", "test")[:60],
        "summarization": sample_texts("knkarthick__samsum/default", "dialogue", "test")[:60],
    }
    found = report(router, own)
    assert {share.adapter: share.right_share >= 0.8 for share in found.shares} == dict.fromkeys(own, True)
    assert found.false_accept_share <= 0.4  # 8 of 24, single sentences, to paraphrase
    # all kinds that ship: they were fitted on, so this says that the profiles fit them and no more
    bundled = report(router, {"emotion": own["emotion"]}, read_background())
    assert bundled.false_accept_share <= 0.1


def test_a_profile_fitted_as_a_user_would_leaves_kinds_it_has_not_seen(tmp_path: Path) -> None:
    """Fitted on samples and half of the kinds, measured on the other half and on the report's own texts."""
    shutil.copytree(ADAPTERS / "emotion", tmp_path / "mini" / "emotion")
    router = Router.open(tmp_path / "mini", "mini")
    kinds = sorted({item.kind for item in read_background(BUNDLED)})
    random.Random(0).shuffle(kinds)
    seen = set(kinds[::2])
    background = [item.text for item in read_background() if item.kind in seen]
    unseen = [item for item in read_background() if item.kind not in seen]
    train, validation, test = (
        sample_texts("dair-ai__emotion/split", "text", split) for split in ("train", "validation", "test")
    )
    router.fit_routing("emotion", train[:200], validation[:90], background=background)
    found = report(router, {"emotion": test[:100]}, unseen)
    assert found.shares[0].right_share >= 0.8
    assert found.false_accept_share <= 0.15
