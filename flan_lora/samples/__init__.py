"""Small bundled samples, one per dataset of the recipes: written for this project, no row is real data."""

from __future__ import annotations

from pathlib import Path

SAMPLES_PATH = Path(__file__).parent
"""A local data root: <owner>__<name>/<config>/<split>.jsonl."""
