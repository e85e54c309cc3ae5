"""Write the bundled samples: ``python -m tools.samples.generate --out DIR``.

Deterministic: every split has its own seeded ``random.Random``, so the files are the committed ones byte for byte.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from flan_lora.samples import SAMPLES_PATH
from tools.samples import grammar_emotion, grammar_mlqa, grammar_paws, grammar_samsum, grammar_squad
from tools.samples.engine import SPLITS, Row

SEED = 20


def samples() -> Iterator[tuple[str, list[Row]]]:
    """Every file: its path under a data root, and its rows; no row appears in two splits."""
    by_split = {
        "dair-ai__emotion/split": grammar_emotion.rows,
        "rajpurkar__squad/plain_text": grammar_squad.rows,
        "google-research-datasets__paws/labeled_final": grammar_paws.rows,
        "knkarthick__samsum/default": grammar_samsum.rows,
        "facebook__mlqa/mlqa.hi.en": grammar_mlqa.rows,
    }
    for folder, rows in by_split.items():
        taken: set[str] = set()
        for split in SPLITS:
            yield f"{folder}/{split}.jsonl", rows(split, Random(f"{SEED} {folder} {split}"), taken)


def write_samples(root: Path) -> list[Path]:
    """Write the files under ``root`` (UTF-8, one JSON object per line) and say which."""
    paths = []
    for name, rows in samples():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode("utf-8"))
        paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the bundled samples (deterministic).")
    parser.add_argument("--out", type=Path, default=SAMPLES_PATH, help="folder to write to (default: %(default)s)")
    for path in write_samples(parser.parse_args().out):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
