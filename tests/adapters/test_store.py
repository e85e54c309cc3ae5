"""The store: whole or not at all, under crashes and rivals."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flan_lora.adapters import store as store_module
from flan_lora.adapters.manifest import dump
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.errors import AdapterCorruptError, AdapterError, UnknownAdapterError
from tests.adapters.folders import (
    A_KEY,
    B_KEY,
    BASE,
    CONFIG,
    NEW,
    OLD,
    WEIGHTS,
    change_rank,
    drop_b,
    foreign_module,
    forks,
    hidden,
    manifest,
    no_v,
    not_finite,
    rewrite_config,
    rewrite_weights,
    wrong_prefix,
    zero_b,
)
from tests.published import make_metrics


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
