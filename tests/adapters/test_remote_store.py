"""Adapter roots at URLs: memory, a disk, S3 over HTTP. Read through a checked mirror, published whole or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flan_lora.adapters.remote_folder import RemoteFolder, is_url
from flan_lora.adapters.remote_store import (
    RemoteStore,
    adapter_root,
    bases_of,
    keep_fresh,
    remote_of,
    store_at,
    version_of,
)
from flan_lora.adapters.store import Store
from flan_lora.adapters.stores import find_store, stores
from flan_lora.adapters.validation import MANIFEST
from flan_lora.errors import AdapterCorruptError, RemoteError, UnknownAdapterError
from tests.adapters.folders import NEW, OLD, WEIGHTS, manifest
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 server, on loopback."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty adapter root on each kind of storage."""
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "cache"))
    name = tmp_path.name
    if request.param == "memory":
        return f"memory://{name}/adapters"
    if request.param == "file":
        return f"file://{tmp_path}/remote/adapters"
    import boto3

    endpoint = request.getfixturevalue("s3_endpoint")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"b-{abs(hash(name))}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/adapters"


@pytest.fixture
def remote(url: str) -> RemoteFolder:
    """The folder of one base there, past any mirror."""
    return RemoteFolder(f"{url}/mini")


def store_of(url: str) -> RemoteStore:
    store = store_at(adapter_root(url) / "mini")
    assert isinstance(store, RemoteStore)
    return store


def another_machine(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RemoteStore:
    """The same root with a mirror of its own."""
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "elsewhere"))
    return store_of(url)


def put(remote: RemoteFolder, folder: Path, name: str = "emotion") -> None:
    """A folder as `aws s3 sync` would copy it."""
    for file in folder.iterdir():
        remote.write(f"{name}/{file.name}", file.read_bytes())


def test_what_one_machine_publishes_another_reads(
    url: str, staged_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = store_of(url)
    published.publish(staged_dirs[0], manifest(created_at=OLD))
    other = another_machine(url, monkeypatch, tmp_path)
    assert bases_of(adapter_root(url)) == ["mini"]
    [item] = other.list()
    assert item.name == "emotion" and not (other.root / "emotion").exists(), "weights come when they are asked for"
    stored = other.open("emotion")
    assert (stored.path / WEIGHTS).read_bytes() == (staged_dirs[0] / WEIGHTS).read_bytes()
    assert other.verify("emotion") == [] and stored.path.is_relative_to(tmp_path / "elsewhere")
    plain = {name: other.remote.read(f"emotion/{name}", 1 << 20) for name in stored.manifest.files}
    assert plain[WEIGHTS] == (stored.path / WEIGHTS).read_bytes(), "a folder that PEFT reads, once downloaded"


def test_a_folder_that_was_copied_there_is_an_adapter(url: str, remote: RemoteFolder, store: Store) -> None:
    put(remote, store.root / "emotion")
    mine = store_of(url)
    assert mine.open("emotion").manifest == store.open("emotion").manifest
    assert [found.root.name for found in stores(adapter_root(url))] == ["mini"]
    assert find_store("emotion", adapter_root(url))[1] == "emotion"
    with pytest.raises(UnknownAdapterError, match=r"no adapter 'emotions' .*under " + url.partition("://")[0]):
        find_store("emotions", adapter_root(url))


def test_a_new_version_is_read_and_an_old_one_is_whole_until_then(
    url: str, staged_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = store_of(url)
    publisher.publish(staged_dirs[0], manifest(created_at=OLD))
    reader = another_machine(url, monkeypatch, tmp_path)
    before = reader.open("emotion")
    publisher.publish(staged_dirs[1], manifest(created_at=NEW))
    after = reader.open("emotion")
    assert before.manifest.created_at != after.manifest.created_at and reader.verify("emotion") == []
    assert (after.path / WEIGHTS).read_bytes() == (staged_dirs[1] / WEIGHTS).read_bytes()
    content = reader.remote.read(f"emotion/{MANIFEST}", 1 << 20)
    assert content is not None
    assert RemoteFolder(f"{reader.remote.url}/emotion/.versions").folders() == [version_of(content)]


class Died(BaseException):
    """The process ends here."""


def number_of_writes(url: str, staged: Path, monkeypatch: pytest.MonkeyPatch, allowed: int) -> bool:
    """Publish, dying after so many writes and copies; whether it came to its end."""
    done = 0

    def count(method: Any) -> Any:
        def counted(self: RemoteFolder, *arguments: Any) -> None:
            nonlocal done
            if done >= allowed:
                raise Died
            done += 1
            method(self, *arguments)

        return counted

    with monkeypatch.context() as patch:
        for name in ("write", "copy", "delete"):
            patch.setattr(RemoteFolder, name, count(getattr(RemoteFolder, name)))
        try:
            store_of(url).publish(staged, manifest(created_at=NEW))
        except Died:
            return False
    return True


def test_a_crash_at_any_write_leaves_the_old_adapter_or_the_new_one(
    staged_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for allowed in range(40):
        url = f"memory://{tmp_path.name}-{allowed}/adapters"
        monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / f"publisher-{allowed}"))
        store_of(url).publish(staged_dirs[0], manifest(created_at=OLD))
        is_whole = number_of_writes(url, staged_dirs[1], monkeypatch, allowed)
        monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / f"reader-{allowed}"))
        reader = store_of(url)
        assert reader.verify("emotion") == []
        seen.append(reader.open("emotion").manifest.created_at)
        if is_whole:
            break
    else:
        pytest.fail("never came to its end")
    assert seen == sorted(seen) and {seen[0], seen[-1]} == {OLD, NEW}
    assert seen.count(OLD) > 2 and seen.count(NEW) > 2, "the manifest is neither the first nor the last write"


def test_half_a_publication_is_no_adapter(url: str, remote: RemoteFolder, store: Store) -> None:
    put(remote, store.root / "emotion")
    remote.delete(f"emotion/{MANIFEST}")
    mine = store_of(url)
    assert mine.list() == []
    with pytest.raises(UnknownAdapterError, match="nothing is published there"):
        mine.open("emotion")


def test_bytes_that_are_not_the_manifests_are_refused(url: str, remote: RemoteFolder, store: Store) -> None:
    put(remote, store.root / "emotion")
    weights = remote.read(f"emotion/{WEIGHTS}", 1 << 24)
    assert weights is not None
    remote.write(f"emotion/{WEIGHTS}", weights[:-1] + bytes([weights[-1] ^ 1]))
    mine = store_of(url)
    with pytest.raises(AdapterCorruptError, match=rf"mini/emotion/{WEIGHTS} is not what its manifest says"):
        mine.open("emotion")
    assert not (mine.root / "emotion").exists()
    remote.write(f"emotion/{WEIGHTS}", weights)
    assert mine.open("emotion").name == "emotion"


def test_a_damaged_mirror_mends_itself(url: str, remote: RemoteFolder, store: Store) -> None:
    put(remote, store.root / "emotion")
    mine = store_of(url)
    path = mine.open("emotion").path
    content = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(content[:100])
    assert (mine.open("emotion").path / WEIGHTS).read_bytes() == content


def test_a_removed_adapter_is_gone_here_too(
    url: str, staged_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = store_of(url)
    publisher.publish(staged_dirs[0], manifest(created_at=OLD))
    reader = another_machine(url, monkeypatch, tmp_path)
    reader.open("emotion")
    publisher.remove("emotion")
    with pytest.raises(UnknownAdapterError):
        reader.open("emotion")
    assert not (reader.root / "emotion").exists() and reader.list() == []
    assert publisher.remote.read(f"emotion/{WEIGHTS}", 1 << 24) is None
    with pytest.raises(UnknownAdapterError):
        publisher.remove("emotion")


def test_a_manifest_cannot_name_files_outside(
    url: str, remote: RemoteFolder, store: Store, tmp_path: Path
) -> None:
    put(remote, store.root / "emotion")
    document = json.loads(remote.read(f"emotion/{MANIFEST}", 1 << 20) or b"")
    document["files"]["../../evil"] = document["files"][WEIGHTS]
    remote.write(f"emotion/{MANIFEST}", json.dumps(document).encode())
    with pytest.raises(AdapterCorruptError):
        store_of(url).open("emotion")
    assert not list(tmp_path.rglob("evil"))


def test_a_root_that_cannot_be_reached_serves_what_was_read_and_says_so_once(
    url: str, remote: RemoteFolder, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(remote, store.root / "emotion")
    mine = store_of(url)
    mine.open("emotion")

    def unreachable(self: RemoteFolder, *_: Any) -> bytes:
        raise RemoteError(f"cannot read {self.shown}: no route to host.")

    monkeypatch.setattr(RemoteFolder, "read", unreachable)
    assert mine.open("emotion").name == "emotion" and mine.open("emotion").name == "emotion"
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "no route to host" in warnings[0]
    with pytest.raises(RemoteError, match="no route to host"):
        mine.open("moods")


def test_what_is_published_anew_comes_into_a_served_mirror(
    url: str, staged_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = store_of(url)
    publisher.publish(staged_dirs[0], manifest(created_at=OLD))
    reader = another_machine(url, monkeypatch, tmp_path)
    path = reader.open("emotion").path
    reader.refresh()
    listing = os.stat(reader.root).st_mtime_ns
    ended = keep_fresh(reader, interval_s=0.05)
    assert ended is not None and keep_fresh(Store(tmp_path)) is None
    try:
        publisher.publish(staged_dirs[1], manifest(created_at=NEW))
        wait_until(lambda: (path / WEIGHTS).read_bytes() == (staged_dirs[1] / WEIGHTS).read_bytes(), timeout_s=30)
        publisher.publish(staged_dirs[1], manifest("moods", created_at=NEW))
        wait_until(lambda: "moods" in reader._stamps, timeout_s=30)
        assert os.stat(reader.root).st_mtime_ns != listing
    finally:
        ended.set()


def test_one_damaged_adapter_does_not_keep_the_others_from_being_fetched_anew(
    staged_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path.name}/adapters"
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "cache"))
    publisher = store_of(url)
    for name in ("emotion", "moods"):
        publisher.publish(staged_dirs[0], manifest(name, created_at=OLD))
    reader = another_machine(url, monkeypatch, tmp_path)
    path = reader.open("moods").path
    reader.open("emotion")
    publisher.publish(staged_dirs[1], manifest("moods", created_at=NEW))
    document = json.loads(reader.remote.read(f"emotion/{MANIFEST}", 1 << 20) or b"")
    document["files"][WEIGHTS]["sha256"] = "0" * 64
    reader.remote.write(f"emotion/{MANIFEST}", json.dumps(document).encode())
    with pytest.raises(AdapterCorruptError, match=r"mini/emotion/.* is not what its manifest says"):
        reader.refresh()
    assert (path / WEIGHTS).read_bytes() == (staged_dirs[1] / WEIGHTS).read_bytes()


# URLs, and what cannot be


def test_urls_and_folders_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path))
    assert is_url("s3://a/b") and not is_url("adapters") and not is_url("C:\\adapters")
    assert adapter_root("adapters") == Path("adapters") and adapter_root(tmp_path) == tmp_path
    mirror = adapter_root("memory://a/b/")
    assert mirror == adapter_root("memory://a/b") and mirror.is_relative_to(tmp_path)
    found = remote_of(mirror)
    assert found is not None and found.url == "memory://a/b" and remote_of(tmp_path) is None
    assert type(store_at(tmp_path / "mini")) is Store
    assert store_at("memory://a/b/mini").root == mirror / "mini"


def test_a_password_in_a_url_is_not_shown() -> None:
    folder = RemoteFolder("ftp://ann:secret@host/adapters")
    assert folder.shown == "ftp://host/adapters"


def test_an_unknown_scheme_and_a_missing_package_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RemoteError, match=r"nosuch://a: .*\nGive a local folder"):
        adapter_root("nosuch://a")

    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(RemoteError, match=r"Install s3fs to access S3\.\npip install 'flan-lora\[s3\]'"):
        adapter_root("s3://a/b")
    with pytest.raises(RemoteError, match="pip install gcsfs"):
        adapter_root("gs://a/b")


def test_a_bucket_that_is_not_there_is_named(
    s3_endpoint: str, staged_dirs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    store = store_of("s3://no-such-bucket/adapters")
    with pytest.raises(RemoteError, match=r"cannot write .* in s3://no-such-bucket/adapters/mini: ") as caught:
        store.publish(staged_dirs[0], manifest(created_at=OLD))
    assert "still in" in str(caught.value) and not (store.root / "emotion").exists()


def test_a_disk_gets_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RemoteFolder(f"file://{tmp_path}/root")
    folder.write("a/b.txt", b"old")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(RemoteError, match="no room"):
            folder.write("a/b.txt", b"new")
    assert [path.name for path in (tmp_path / "root" / "a").iterdir()] == ["b.txt"]
    assert folder.read("a/b.txt", 10) == b"old"
    with pytest.raises(RemoteError, match="larger than 2 bytes"):
        folder.read("a/b.txt", 2)
