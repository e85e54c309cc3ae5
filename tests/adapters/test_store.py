"""The store: whole or not at all under crashes and rivals, and nothing opens that is damaged or does not fit."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from flan_lora.adapters import store as store_module
from flan_lora.adapters import validation
from flan_lora.adapters.manifest import FileRecord, Manifest, dump, load
from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import BrokenAdapter, StoredAdapter
from flan_lora.base.fingerprint import fingerprint
from flan_lora.base.load import open_base
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError, UnknownAdapterError
from flan_lora.recipe import BaseSection
from flan_lora.system.files import read_regular
from tests.published import make_manifest, make_metrics, stage, tiny_fingerprint
from tests.tiny import tiny_t5, tiny_tokenizer

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
OLD, NEW = "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
BASE = {"fingerprint": tiny_fingerprint()}
A_KEY = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
B_KEY = A_KEY.replace("lora_A", "lora_B")
NO_NEXT_STEP = "Restore the folder from its origin, or publish it again: flan-lora train recipes/emotion.yaml"

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")


def manifest(name: str = "emotion", **changes: Any) -> Manifest:
    return make_manifest(name, **{"base": BASE, **changes})


@pytest.fixture(scope="module")
def staged_dirs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trained adapters that differ in their weights."""
    return [stage(tmp_path_factory.mktemp("staged"), seed) for seed in (0, 1)]


@pytest.fixture
def staged(staged_dirs: list[Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(staged_dirs[0], tmp_path / "staged"))


@pytest.fixture
def store(staged_dirs: list[Path], tmp_path: Path) -> Store:
    """A store with one adapter, `emotion`."""
    store = Store(tmp_path / "adapters" / "mini")
    store.publish(staged_dirs[0], manifest(created_at=OLD))
    return store


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / WEIGHTS)


def rewrite_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


def hidden(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if path.name.startswith(".") and path.name != ".lock")


# Publishing


def test_a_published_adapter_opens_with_a_hash_for_every_file(staged: Path, tmp_path: Path) -> None:
    (staged / "README.md").write_text("# A card\n")
    (staged / "metrics.json").write_text(dump(make_metrics()))
    store = Store(tmp_path / "new" / "root")
    path = store.publish(staged, manifest())
    stored = store.open("emotion", fingerprint=BASE["fingerprint"])
    assert path == stored.path == store.root / "emotion"
    assert set(stored.manifest.files) == {"README.md", "metrics.json", CONFIG, WEIGHTS}
    assert {p.name for p in path.iterdir()} == {*stored.manifest.files, "manifest.json"}
    assert stored.size_bytes == sum((path / name).stat().st_size for name in stored.manifest.files)
    assert stored.manifest.model_copy(update={"files": {}}) == manifest()
    assert store.verify("emotion") == [] and hidden(store) == []
    assert (path / WEIGHTS).read_bytes() == (staged / WEIGHTS).read_bytes()


def test_the_config_is_canonical_and_names_no_local_path(staged: Path, tmp_path: Path) -> None:
    store, published = Store(tmp_path / "mini"), []
    for modules in (["q", "wi_0", "v"], ["v", "q", "wi_0"]):
        rewrite_config(
            staged, target_modules=modules, base_model_name_or_path=str(tmp_path / "t5"), inference_mode=False
        )
        record = manifest(base={**BASE, "model": "google/flan-t5-large", "revision": "0613663"})
        published.append((store.publish(staged, record) / CONFIG).read_bytes())
    assert published[0] == published[1]
    config = json.loads(published[0])
    assert config["target_modules"] == ["q", "v", "wi_0"]
    assert config["base_model_name_or_path"] == "google/flan-t5-large"
    assert config["revision"] == "0613663" and config["inference_mode"] is True
    assert published[0].decode() == json.dumps(config, sort_keys=True, indent=2) + "\n"


def drop_b(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[B_KEY]


def change_rank(tensors: dict[str, torch.Tensor]) -> None:
    tensors[A_KEY] = tensors[A_KEY][:3]


def wrong_prefix(tensors: dict[str, torch.Tensor]) -> None:
    tensors[A_KEY.removeprefix("base_model.model.")] = tensors.pop(A_KEY)


def foreign_module(tensors: dict[str, torch.Tensor]) -> None:
    for key in (A_KEY, B_KEY):
        tensors[key.replace(".q.", ".k.")] = tensors[key].clone()


def not_finite(tensors: dict[str, torch.Tensor]) -> None:
    tensors[B_KEY][0, 0] = float("nan")


def zero_b(tensors: dict[str, torch.Tensor]) -> None:
    for key in tensors:
        if "lora_B" in key:
            tensors[key].zero_()


def no_v(tensors: dict[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if ".v." in key]:
        del tensors[key]


MODULE = A_KEY.removeprefix("base_model.model.").removesuffix(".lora_A.weight")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop_b, f"{MODULE} has ['A'], expected ['A', 'B'] (lora_A, lora_B, magnitude vector)"),
        (change_rank, f"{MODULE} has shapes {{'A': (3, 32), 'B': (32, 4)}}, expected A (4, in) and B (out, 4)"),
        (
            wrong_prefix,
            f"{MODULE}.lora_A.weight is not a LoRA weight, "
            "expected base_model.model.<module>.lora_A.weight or lora_B.weight",
        ),
        (foreign_module, f"{MODULE[:-1]}k is not one of the target modules ['q', 'v', 'wi_0']"),
        (not_finite, f"{B_KEY} holds NaN or infinity: the training diverged"),
        (zero_b, "every B is 0: training did not move the adapter, it answers as the bare base"),
        (no_v, "target module 'v' has no weights"),
    ],
)
def test_weights_that_are_no_trained_adapter_are_not_published(
    staged: Path, store: Store, change: Callable[[dict[str, torch.Tensor]], object], problem: str
) -> None:
    rewrite_weights(staged, change)
    with pytest.raises(AdapterCorruptError) as error:
        store.publish(staged, manifest(created_at=NEW))
    headline, *lines = str(error.value).splitlines()
    assert headline.startswith(f"cannot publish adapter 'emotion' from {staged} (")
    assert f"  {WEIGHTS}: {problem}" in lines and lines[-1] == "Nothing was published."
    assert store.open("emotion").manifest.created_at == OLD and hidden(store) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"r": 8}, "r is 8, expected 4"),
        ({"lora_alpha": 16}, "lora_alpha is 16, expected 8"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ({"task_type": None}, "task_type is None, expected 'SEQ_2_SEQ_LM'"),
        ({"use_dora": True}, "use_dora is True, expected False"),
        ({"use_rslora": True}, "use_rslora is True, expected False"),
        ({"bias": "all"}, "bias is 'all', expected 'none'"),
        ({"rank_pattern": {"q": 2}}, "rank_pattern is {'q': 2}, expected None"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head'], expected None"),
        ({"target_modules": ["q"]}, "target_modules is ['q'], expected ['q', 'v', 'wi_0']"),
        ({"target_modules": "all-linear"}, "target_modules is 'all-linear', expected ['q', 'v', 'wi_0']"),
        (
            {"init_lora_weights": "pissa"},
            "init_lora_weights 'pissa' changes the weights of the base, expected True",
        ),
    ],
)
def test_a_config_that_departs_from_the_recipe_is_not_published(
    staged: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    rewrite_config(staged, **changes)
    with pytest.raises(AdapterCorruptError) as error:
        Store(tmp_path / "mini").publish(staged, manifest())
    assert f"(1 problem):\n  {CONFIG}: {problem}\n" in str(error.value)
    assert not (tmp_path / "mini" / "emotion").exists()


def damage_not_safetensors(staged: Path) -> None:
    (staged / WEIGHTS).write_bytes(b"\x80\x04 a pickle under another name")


def damage_no_weights(staged: Path) -> None:
    (staged / WEIGHTS).unlink()


def damage_config(staged: Path) -> None:
    (staged / CONFIG).write_text("{")


def damage_checkpoint(staged: Path) -> None:
    (staged / "optimizer.pt").touch()
    (staged / "trainer_state.json").touch()


def damage_card(staged: Path) -> None:
    (staged / "README.md").write_text(f"base_model: {Path.home()}/checkpoints")


def damage_metrics(staged: Path) -> None:
    other = {"accuracy": {"value": 0.99, "low": 0.99, "high": 0.99}}
    (staged / "metrics.json").write_text(dump(make_metrics(adapter=other)))


def damage_metrics_format(staged: Path) -> None:
    (staged / "metrics.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (damage_not_safetensors, f"{WEIGHTS}: not readable as safetensors: "),
        (damage_no_weights, f"{WEIGHTS}: missing\n"),
        (damage_config, f"{CONFIG}: not readable as JSON: "),
        (damage_checkpoint, f"  optimizer.pt: pickled weights are never loaded, only {WEIGHTS} is\n"),
        (damage_checkpoint, "  trainer_state.json: not part of an adapter\n"),
        (damage_card, "README.md: names a local path\n"),
        (damage_metrics, "metrics.json: has other scores than the manifest\n"),
        (damage_metrics_format, "metrics.json has format_version None, expected 1."),
    ],
)
def test_a_staged_folder_with_wrong_files_is_not_published(
    staged: Path, tmp_path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(staged)
    with pytest.raises(AdapterCorruptError) as error:
        Store(tmp_path / "mini").publish(staged, manifest())
    assert problem in str(error.value)
    assert not (tmp_path / "mini" / "emotion").exists()


def test_a_recipe_for_another_base_than_the_record_is_not_published(staged: Path, tmp_path: Path) -> None:
    record = manifest()
    recipe = {**record.recipe, "base": {**record.recipe["base"], "model": "google/flan-t5-base"}}
    with pytest.raises(AdapterCorruptError) as error:
        Store(tmp_path / "mini").publish(staged, record.model_copy(update={"recipe": recipe}))
    assert "the recipe's base is 'google/flan-t5-base', but the record says 'mini'" in str(error.value)


# Crashes. A child process is killed before its n-th change of the disk, for every n there is.

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def run_in_child(work: Callable[[], object], at_step: int, act: Callable[[], object]) -> int:
    """Exit code of a fork that calls ``act`` before its ``at_step``-th change of the disk.

    9: killed there. 3: AdapterError. 2: done in spite of ``act``. 0: done, and there was no such step.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    step = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal step
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or event == "fsync" or writes:
            step += 1
            if step == at_step:
                act()

    real_fsync = os.fsync  # raises no audit event of its own
    os.fsync = lambda file: (count("fsync", ()), real_fsync(file))[1]  # type: ignore[assignment]
    store_module.weight_problems = lambda *_: []  # type: ignore[attr-defined]  # no torch in a fork
    sys.addaudithook(count)
    try:
        work()
    except AdapterError:
        os._exit(3)
    except BaseException:
        os._exit(4)
    os._exit(0 if step < at_step else 2)


def kill() -> None:
    os._exit(9)


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def crashes(work: Callable[[], object], prepare: Callable[[], object], act: Callable[[], object]) -> Iterator[int]:
    """Yield after each crash; end with the first run that had no n-th step."""
    for at_step in range(1, 200):
        prepare()
        code = run_in_child(work, at_step, act)
        assert code in (0, 2, 3, 9)
        yield code
        if code == 0:
            return
    raise AssertionError("no run came to its end")


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("act", [kill, fill_the_disk])
@pytest.mark.parametrize("is_replaced", [True, False], ids=["replace", "first"])
def test_a_publish_that_dies_at_any_step_leaves_the_old_adapter_or_the_new_one(
    store: Store, staged_dirs: list[Path], tmp_path: Path, act: Callable[[], object], is_replaced: bool
) -> None:
    before = shutil.copytree(store.root, tmp_path / "before")
    if not is_replaced:
        shutil.rmtree(before / "emotion")

    def prepare() -> None:
        shutil.rmtree(store.root)
        shutil.copytree(before, store.root)

    seen = []
    for code in crashes(lambda: store.publish(staged_dirs[1], manifest(created_at=NEW)), prepare, act):
        if code == 3:
            assert hidden(store) == [], "an error that the process survives leaves nothing behind"
        try:
            seen.append(store.open("emotion").manifest.created_at)
            source = staged_dirs[0 if seen[-1] == OLD else 1]
            assert (store.root / "emotion" / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
            assert store.verify("emotion") == []
        except UnknownAdapterError:
            seen.append("nothing")
        assert hidden(store) == []
        assert code not in (0, 2) or seen[-1] == NEW
    assert len(seen) > 10
    assert set(seen) == {OLD if is_replaced else "nothing", NEW}


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_repair_that_dies_at_any_step_is_finished_by_the_next(
    store: Store, staged_dirs: list[Path], tmp_path: Path
) -> None:
    before = shutil.copytree(store.root, tmp_path / "before")
    num_repairs, states = 0, set()

    def prepare() -> None:
        shutil.rmtree(store.root)
        shutil.copytree(before, store.root)

    for _ in crashes(lambda: store.publish(staged_dirs[1], manifest(created_at=NEW)), prepare, kill):
        state = tuple(sorted(path.name for path in store.root.iterdir()))
        if not hidden(store) or state in states:
            continue
        states.add(state)
        crashed = shutil.copytree(store.root, tmp_path / "crashed", dirs_exist_ok=False)

        def prepare_repair(crashed: Path = crashed) -> None:
            shutil.rmtree(store.root)
            shutil.copytree(crashed, store.root)

        for _ in crashes(store.list, prepare_repair, kill):
            assert store.open("emotion").manifest.created_at in (OLD, NEW)
            assert [item.name for item in store.list() if isinstance(item, StoredAdapter)] == ["emotion"]
            num_repairs += 1
        shutil.rmtree(crashed)
    assert len(states) > 3 and num_repairs > 20


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_removal_that_dies_at_any_step_leaves_the_adapter_whole_or_gone(store: Store, tmp_path: Path) -> None:
    before = shutil.copytree(store.root, tmp_path / "before")

    def prepare() -> None:
        shutil.rmtree(store.root)
        shutil.copytree(before, store.root)

    seen = []
    for _ in crashes(lambda: store.remove("emotion"), prepare, kill):
        seen.append(store.list())
        assert hidden(store) == []
        assert not seen[-1] or isinstance(seen[-1][0], StoredAdapter)
    assert seen[0] and not seen[-1]


def test_everything_is_on_disk_before_the_name_points_to_it(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("reads the names of open files from /proc")
    synced: list[str] = []
    at_rename: list[set[str]] = []
    real_fsync, real_rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real_fsync(fd))
    )
    monkeypatch.setattr(os, "rename", lambda a, b: (at_rename.append({*synced}), real_rename(a, b)))
    path = Store(tmp_path / "mini").publish(staged, manifest())
    new = tmp_path / "mini" / ".new-emotion"
    assert at_rename == [{str(new), *(str(new / file.name) for file in path.iterdir())}]
    assert synced[-2:] == [str(new), str(tmp_path / "mini")]
    assert synced[-3] == str(new / "manifest.json"), "the manifest is the last file"


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_rival_publishers_and_readers_see_one_whole_adapter_at_any_time(
    store: Store, staged_dirs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "weight_problems", lambda *_: [])
    children = []
    for staged, stamp in zip(staged_dirs, (OLD, NEW), strict=True):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(25):
                    store.publish(staged, manifest(created_at=stamp))
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    num_opened, codes = 0, []
    while len(codes) < 2:
        assert store.open("emotion").manifest.created_at in (OLD, NEW)
        assert len(store.list()) == 1 and isinstance(store.list()[0], StoredAdapter)
        num_opened += 1
        codes += [os.waitstatus_to_exitcode(s) for c in children for pid, s in [wait_nohang(c)] if pid]
    assert codes == [0, 0] and num_opened > 2
    assert store.verify("emotion") == [] and hidden(store) == []


def wait_nohang(child: int) -> tuple[int, int]:
    try:
        return os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


# Opening


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
    def refuse(file: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store_module, "_lock", refuse)
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


# Loading


def logits(model: Any) -> torch.Tensor:
    inputs = torch.arange(3, 24).reshape(3, 7)
    with torch.no_grad():
        return model(input_ids=inputs, decoder_input_ids=inputs[:, :3]).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["plain", "dora", "rslora"])
def test_our_loading_gives_the_logits_of_plain_peft(tmp_path: Path, lora: dict[str, bool]) -> None:
    store = Store(tmp_path / "mini")
    path = store.publish(stage(tmp_path / "staged", lora_dropout=0.1, **lora), manifest(lora=lora))
    plain = PeftModel.from_pretrained(tiny_t5(), path)
    state = torch.get_rng_state()
    ours = load_adapter(tiny_t5(), store.open("emotion"))
    assert torch.equal(torch.get_rng_state(), state), "loading spends no random numbers"
    assert torch.equal(logits(ours), logits(plain))
    assert not torch.allclose(logits(ours), logits(tiny_t5()), atol=1e-2)
    assert not ours.training and not any(parameter.requires_grad for parameter in ours.parameters())
    with ours.disable_adapter():
        assert torch.equal(logits(ours), logits(tiny_t5()))


def test_an_adapter_loads_onto_an_int8_base_as_plain_peft_does(store: Store, tmp_path: Path) -> None:
    tiny_t5().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    spec = BaseSection(model=str(tmp_path / "base"), quantization="int8")
    base, twin = open_base(spec, device="cpu"), open_base(spec, device="cpu")
    bare = logits(base.model)
    ours = load_adapter(base.model, store.open("emotion", fingerprint=base.fingerprint))
    assert torch.equal(logits(ours), logits(PeftModel.from_pretrained(twin.model, store.root / "emotion")))
    assert {p.dtype for name, p in ours.named_parameters() if "lora_" in name} == {torch.float32}
    assert not torch.allclose(logits(ours), bare, atol=1e-2)
    assert torch.equal(logits(ours.unload()), bare)


def test_a_base_of_the_same_shape_is_refused_where_plain_peft_says_nothing(store: Store) -> None:
    stored, other = store.open("emotion"), tiny_t5(seed=1)
    before = logits(other)
    with pytest.raises(AdapterMismatchError) as error:
        load_adapter(other, stored)
    version = manifest().task_version
    assert str(error.value) == (
        "adapter 'emotion' does not fit this base.\n"
        f"  trained on  mini      @ {BASE['fingerprint'][:8]}, prompt version {version}\n"
        f"  serving on  this base @ {fingerprint(other)[:8]}, prompt version {version}\n"
        "Retrain it (flan-lora train recipes/emotion.yaml) or serve the base it was trained on."
    )
    assert torch.equal(logits(other), before)
    assert load_adapter(other, stored, fingerprint=BASE["fingerprint"]), "a fingerprint that is given is believed"


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_weights_that_do_not_land_are_refused_where_plain_peft_answers_as_the_base(
    staged: Path, tmp_path: Path
) -> None:
    def one_level_down(tensors: dict[str, torch.Tensor]) -> None:
        for key in list(tensors):
            tensors[key.replace("base_model.model.", "base_model.model.model.")] = tensors.pop(key)

    rewrite_weights(staged, one_level_down)
    store, base = Store(tmp_path / "mini"), tiny_t5()
    path = store.publish(staged, manifest())
    with pytest.raises(AdapterMismatchError) as error:
        load_adapter(base, store.open("emotion"))
    first, second, *_, last = str(error.value).splitlines()
    num_weights = len(load_file(path / WEIGHTS))
    assert first == f"the weights of adapter 'emotion' do not fit this base ({2 * num_weights} differ):"
    assert (
        second.startswith("  base_model.model.decoder.") and ": the file has nothing, the base takes (" in second
    )
    assert last == "Serve the base it was trained on, or publish it again."
    assert not any(isinstance(module, BaseTunerLayer) for module in base.modules()), "the base is as before"
    assert torch.equal(logits(base), logits(tiny_t5()))
    # PEFT, the day it refuses too, makes this check superfluous
    assert torch.equal(logits(PeftModel.from_pretrained(tiny_t5(), path)), logits(tiny_t5()))


def test_reading_opens_and_gives_the_weights_of_the_bytes_it_checked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, reads = load_file(store.root / "emotion" / WEIGHTS), []

    def counted(path: Path, max_bytes: int) -> bytes:
        reads.append(path.name)
        return read_regular(path, max_bytes)

    monkeypatch.setattr(validation, "read_regular", counted)
    stored, files = store.read("emotion")
    assert stored == store.open("emotion") and reads.count(WEIGHTS) == 2  # once each
    assert files.config["r"] == stored.manifest.recipe["lora"]["rank"]
    assert files.tensors.keys() == whole.keys()
    assert all(torch.equal(files.tensors[key], whole[key]) for key in whole)
    (stored.path / WEIGHTS).write_bytes(b"altered")
    with pytest.raises(AdapterCorruptError, match="truncated or altered"):
        store.read("emotion")


def test_files_that_change_between_opening_and_loading_are_refused(store: Store, staged_dirs: list[Path]) -> None:
    stored = store.open("emotion")
    store.publish(staged_dirs[1], manifest(created_at=NEW))
    with pytest.raises(AdapterCorruptError) as error:
        load_adapter(tiny_t5(), stored)
    text = str(error.value)
    assert text.startswith(f"adapter 'emotion' changed since it was opened (1 problem):\n  {WEIGHTS}: altered\n")
    assert text.endswith("If it was published anew, open it again; else restore or retrain it.")
    loaded = load_adapter(tiny_t5(), store.open("emotion"))
    got = get_peft_model_state_dict(loaded, save_embedding_layers=False)
    assert torch.equal(got[B_KEY], load_file(staged_dirs[1] / WEIGHTS)[B_KEY])


def test_a_second_adapter_on_a_loaded_base_is_refused_until_the_first_is_unloaded(store: Store) -> None:
    stored, base = store.open("emotion"), tiny_t5()
    peft_model = load_adapter(base, stored)
    expected = logits(peft_model)
    for model in (base, peft_model):
        with pytest.raises(AdapterError) as error:
            load_adapter(model, stored)  # type: ignore[arg-type]
        assert str(error.value) == (
            "cannot load adapter 'emotion': this base already carries one. Call unload() on its PeftModel first."
        )
    assert torch.equal(logits(load_adapter(peft_model.unload(), stored)), expected)
