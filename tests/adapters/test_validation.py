"""Opening an adapter: names, damaged and foreign folders, another base or prompt, each with a next step."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from flan_lora.adapters.manifest import FileRecord, dump, load
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import BrokenAdapter, StoredAdapter
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError, UnknownAdapterError
from tests.adapters.folders import (
    B_KEY,
    BASE,
    CONFIG,
    NO_NEXT_STEP,
    WEIGHTS,
    hidden,
    manifest,
    not_finite,
    rewrite_config,
    rewrite_weights,
)


@pytest.mark.parametrize(
    "name",
    [
        "../emotion",
        "a/b",
        "/etc",
        ".hidden",
        ".lock",
        "",
        ".",
        "..",
        "Emotion",
        "emotion\n",
        "x" * 65,
        "e\\m",
        "e\0",
    ],
)
def test_a_path_is_no_name(store: Store, name: str) -> None:
    for ask in (store.open, store.verify, store.remove):
        with pytest.raises(AdapterError) as error:
            ask(name)
        assert str(error.value) == (
            f"{name!r} is not an adapter name.\n"
            "  expected  1 to 64 lower-case letters, digits, '.', '-' and '_', a letter or digit at both ends\n"
            "Give the adapter's name, not a path; the folder of adapters is set on its own."
        )
    assert store.open("emotion")


@pytest.mark.parametrize("name", ["auto", "base", "none", "nul", "aux.v2"])
def test_a_reserved_name_is_refused(staged: Path, store: Store, name: str) -> None:
    with pytest.raises(AdapterError) as error:
        store.publish(staged, manifest(name))
    assert str(error.value) == f"{name!r} is a reserved name; choose another, e.g. 'my-{name}'."
    with pytest.raises(AdapterError, match="reserved"):
        store.open(name)


def test_an_unknown_name_gets_a_suggestion_and_the_list(staged: Path, store: Store) -> None:
    store.publish(staged, manifest("qa"))
    with pytest.raises(UnknownAdapterError) as error:
        store.open("emotions")
    assert str(error.value) == (
        f"no adapter 'emotions' in {store.root}, did you mean 'emotion'?\n  there are: emotion, qa\n"
        "Publish it with flan-lora train recipes/emotions.yaml, or point at the folder that has it."
    )


def test_a_store_that_does_not_exist_is_empty_and_is_not_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere")
    assert store.list() == []
    for ask in (store.open, store.verify, store.remove):
        with pytest.raises(UnknownAdapterError, match=r"no adapter 'qa' in .*\.\n  nothing is published there\n"):
            ask("qa")
    assert not store.root.exists()


def test_an_altered_file_is_named_with_both_hashes(store: Store) -> None:
    path = store.root / "emotion" / WEIGHTS
    record = load(store.root / "emotion" / "manifest.json").files[WEIGHTS]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(AdapterCorruptError) as error:
        store.open("emotion")
    assert str(error.value) == (
        f"adapter 'emotion' in {store.root} is damaged (1 problem):\n"
        f"  {WEIGHTS}: altered\n"
        f"    expected  sha256 {record.sha256}, {record.size_bytes} bytes\n"
        f"    got       sha256 {hashlib.sha256(content).hexdigest()}, {record.size_bytes} bytes\n"
        f"{NO_NEXT_STEP}"
    )


def truncate(path: Path) -> None:
    with (path / WEIGHTS).open("r+b") as file:
        file.truncate(100)


def alter_config(path: Path) -> None:
    rewrite_config(path, lora_alpha=80)


def lose_weights(path: Path) -> None:
    (path / WEIGHTS).unlink()


def weights_become_a_folder(path: Path) -> None:
    (path / WEIGHTS).unlink()
    (path / WEIGHTS).mkdir()


def lose_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def add_pickle(path: Path) -> None:
    (path / "sub").mkdir()
    (path / "sub" / "adapter_model.BIN").touch()


def link_file(path: Path) -> None:
    outside = path.parent.parent / "outside.safetensors"
    (path / WEIGHTS).rename(outside)
    (path / WEIGHTS).symlink_to(outside)


def link_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()
    (path / "manifest.json").symlink_to("/etc/hostname")


def link_folder(path: Path) -> None:
    outside = path.parent.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def forget_weights(path: Path) -> None:
    record = load(path / "manifest.json")
    files = {CONFIG: record.files[CONFIG]}
    (path / "manifest.json").write_text(dump(record.model_copy(update={"files": files})))


def copy_of_another(path: Path) -> None:
    record = load(path / "manifest.json")
    (path / "manifest.json").write_text(dump(record.model_copy(update={"name": "qa"})))


def other_recipe(path: Path) -> None:
    record = load(path / "manifest.json")
    recipe = {**record.recipe, "lora": {**record.recipe["lora"], "rank": 2}}
    (path / "manifest.json").write_text(dump(record.model_copy(update={"recipe": recipe})))


def other_base(path: Path) -> None:
    record = load(path / "manifest.json")
    base = record.base.model_copy(update={"model": "google/flan-t5-base"})
    recipe = {**record.recipe, "base": {**record.recipe["base"], "model": "google/flan-t5-base"}}
    (path / "manifest.json").write_text(dump(record.model_copy(update={"base": base, "recipe": recipe})))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (truncate, f"{WEIGHTS}: truncated or altered\n    expected  sha256 "),
        (alter_config, "altered\n    expected  sha256 "),
        (lose_weights, f"{WEIGHTS}: missing (expected "),
        (weights_become_a_folder, f"{WEIGHTS}: missing (expected "),
        (lose_manifest, "manifest.json is missing. "),
        (add_pickle, f"sub/adapter_model.BIN: pickled weights are never loaded, only {WEIGHTS} is"),
        (link_file, f"emotion/{WEIGHTS}: a link out of the store, to "),
        (link_manifest, "emotion/manifest.json: a link out of the store, to /etc/hostname"),
        (link_folder, "emotion: a link out of the store, to "),
        (forget_weights, f"manifest.json: lists no {WEIGHTS}"),
        (copy_of_another, "manifest.json: names adapter 'qa', but the folder is 'emotion'"),
        (other_recipe, f"{CONFIG}: r is 4, expected 2"),
        (other_base, f"{CONFIG}: base_model_name_or_path is 'mini', expected 'google/flan-t5-base'"),
    ],
)
def test_a_damaged_adapter_is_refused_listed_as_broken_and_can_be_removed(
    staged: Path, store: Store, damage: Callable[[Path], None], problem: str
) -> None:
    store.publish(staged, manifest("qa"))
    damage(store.root / "emotion")
    with pytest.raises(AdapterCorruptError) as error:
        store.open("emotion")
    text = str(error.value)
    assert text.startswith(f"adapter 'emotion' in {store.root} is damaged (1 problem):\n  ")
    assert problem in text and text.endswith(NO_NEXT_STEP)
    [found] = store.verify("emotion")
    broken, sound = store.list()
    assert isinstance(broken, BrokenAdapter) and broken.name == "emotion" and broken.problems == (found,)
    assert problem in found
    assert isinstance(sound, StoredAdapter) and sound.name == "qa"
    store.remove("emotion")
    assert [item.name for item in store.list()] == ["qa"] and hidden(store) == []


def test_all_problems_of_an_adapter_come_at_once(store: Store) -> None:
    for damage in (truncate, alter_config, add_pickle, copy_of_another):
        damage(store.root / "emotion")
    problems = store.verify("emotion")
    assert len(problems) == 4
    with pytest.raises(AdapterCorruptError, match=r"is damaged \(4 problems\)") as error:
        store.open("emotion")
    assert all(problem in str(error.value) for problem in problems)


def test_verify_reads_weights_whose_hash_was_forged(staged: Path, store: Store) -> None:
    path = store.root / "emotion"
    rewrite_weights(path, not_finite)
    record = load(path / "manifest.json")
    content = (path / WEIGHTS).read_bytes()
    forged = FileRecord.of(content)
    (path / "manifest.json").write_text(
        dump(record.model_copy(update={"files": {**record.files, WEIGHTS: forged}}))
    )
    assert store.open("emotion")
    assert store.verify("emotion") == [f"{WEIGHTS}: {B_KEY} holds NaN or infinity: the training diverged"]


def test_a_long_list_of_problems_is_cut_and_counted(staged: Path, tmp_path: Path) -> None:
    rewrite_weights(staged, lambda tensors: [tensor.fill_(float("inf")) for tensor in tensors.values()])
    num_weights = len(load_file(staged / WEIGHTS))
    with pytest.raises(AdapterCorruptError) as error:
        Store(tmp_path / "mini").publish(staged, manifest())
    lines = str(error.value).splitlines()
    assert lines[0].endswith(f"({num_weights} problems):")
    assert len(lines) == 11 and lines[9] == f"  and {num_weights - 8} more"


def test_another_base_is_refused_by_name_and_fingerprint(staged: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "flan-t5-large")
    large = {"model": "google/flan-t5-large", "fingerprint": "1a2b3c4d" * 8}
    store.publish(staged, manifest("summarization", base=large))
    with pytest.raises(AdapterMismatchError) as error:
        store.open("summarization", fingerprint="9e8d7c6b" * 8, base_name="google/flan-t5-base")
    version = manifest().task_version
    assert str(error.value) == (
        "adapter 'summarization' does not fit this base.\n"
        f"  trained on  google/flan-t5-large @ 1a2b3c4d, prompt version {version}\n"
        f"  serving on  google/flan-t5-base  @ 9e8d7c6b, prompt version {version}\n"
        "Retrain it (flan-lora train recipes/summarization.yaml) or serve the base it was trained on."
    )
    assert store.open("summarization", fingerprint="1a2b3c4d" * 8)


def test_another_prompt_version_is_refused(staged: Path, store: Store) -> None:
    version = manifest().task_version
    store.publish(staged, manifest("qa", task_version=version + 1))
    with pytest.raises(AdapterMismatchError) as error:
        store.open("qa")
    short = BASE["fingerprint"][:8]
    assert str(error.value) == (
        "adapter 'qa' does not fit this flan_lora.\n"
        f"  trained on  mini @ {short}, prompt version {version + 1}\n"
        f"  serving on  mini @ {short}, prompt version {version}\n"
        "Retrain it (flan-lora train recipes/qa.yaml) or use flan_lora 0.1.0."
    )
    problem = f"manifest.json: trained with prompt version {version + 1}, this flan_lora has {version}"
    assert store.verify("qa") == [problem]
    assert isinstance(store.list()[1], BrokenAdapter)


def test_a_task_that_is_gone_is_refused(staged: Path, store: Store) -> None:
    store.publish(staged, manifest("poems", task="poetry"))
    with pytest.raises(AdapterMismatchError, match=r"prompt version unknown \(no task 'poetry'\)"):
        store.open("poems")
    assert store.verify("poems")[0].startswith("manifest.json: task 'poetry' is not one of this flan_lora (")


def test_a_store_without_locks_can_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("msvcrt.locking" if sys.platform == "win32" else "fcntl.flock", refuse)
    assert store.open("emotion") and len(store.list()) == 1 and store.verify("emotion") == []
    with pytest.raises(UnknownAdapterError):
        store.open("qa")
    with pytest.raises(AdapterError) as error:
        store.remove("emotion")
    assert str(error.value) == (
        f"cannot remove adapter 'emotion' from {store.root}: [Errno {errno.EROFS}] Read-only file system."
    )


def test_a_disk_that_refuses_is_an_error_with_a_next_step(staged: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AdapterError) as error:
        Store(tmp_path / "file" / "mini").publish(staged, manifest())
    text = str(error.value)
    assert text.startswith(f"cannot publish adapter 'emotion' in {tmp_path / 'file' / 'mini'}: [Errno ")
    assert text.endswith(
        f".\nThe staged files are still in {staged}, and an adapter published before is still whole. "
        "Make room or give write permission, then publish again; a training does so with --resume."
    )


def test_listing_and_opening_import_no_torch(store: Store) -> None:
    code = (
        "import sys; from flan_lora.adapters.store import Store; store = Store(sys.argv[1]); "
        "store.open('emotion'); store.list(); print('torch' in sys.modules, 'peft' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, store.root], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
