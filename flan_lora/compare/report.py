"""A comparison's files for people: the page and its pictures, written beside the answers they were made from."""

from __future__ import annotations

from pathlib import Path

from flan_lora.compare.html import page
from flan_lora.compare.plots import draw_all
from flan_lora.compare.results import Results
from flan_lora.system.files import replace_file


def write_report(folder: Path, results: Results) -> Path:
    """Write index.html and <picture>-<theme>.png; return the page's path. Pictures of an earlier report go.

    Raises:
        FlanLoraError: matplotlib is not installed.
    """
    pictures = draw_all(results)
    for old in folder.glob("*.png"):
        old.unlink()
    for picture in pictures:
        for theme, png in picture.png.items():
            replace_file(folder / f"{picture.name}-{theme}.png", png)
    path = folder / "index.html"
    replace_file(path, page(results, pictures).encode())
    return path
