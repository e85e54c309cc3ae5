"""Files inside published source packages: where a set lies, and whether the archive is the one we measured."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from flan_lora.errors import DataError


@dataclass(frozen=True)
class Package:
    """A source package on PyPI, as ``pip download --no-deps --no-binary :all: NAME==VERSION`` saves it."""

    name: str
    version: str
    sha256: str
    licence: str
    """Of the package; that of a set inside may differ."""

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.tar.gz"


BIG_BENCH = Package(
    "bigbench", "1.0.0", "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2", "Apache-2.0"
)
VADER = Package("vaderSentiment", "2.5", "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84", "MIT")


def read_member(folder: Path, package: Package, *members: str) -> str:
    """The text of a file in a package's archive; of an archive in the archive with several names.

    What was read once is kept beside the archive: BIG-bench's takes 20 s to unpack.

    Raises:
        DataError: no such archive, another one, or no such file in it.
    """
    kept = folder / "read" / f"{package.name}-{package.version}" / members[-1].replace("/", "__")
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    path = folder / package.file_name
    if not path.is_file():
        raise DataError(
            f"{path}: no such file.\nGet it with: pip download --no-deps --no-binary :all: "
            f"{package.name}=={package.version} -d {folder}"
        )
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != package.sha256:
        raise DataError(
            f"{path} is not the archive that these sets were made from (sha256):\n"
            f"  expected  {package.sha256}\n  found     {found}\nDownload it again."
        )
    for member in members:
        content = _member(content, member, path)
    kept.parent.mkdir(parents=True, exist_ok=True)
    text = content.decode("utf-8", "replace")
    kept.write_text(text, encoding="utf-8")
    return text


def _member(archive: bytes, member: str, path: Path) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for info in tar:
            if info.name == member and (file := tar.extractfile(info)) is not None:
                return file.read()
    raise DataError(f"{path} has no file {member}.")
