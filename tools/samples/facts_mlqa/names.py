"""Names in both scripts."""

from __future__ import annotations

Names = list[tuple[str, str]]


def names(text: str) -> Names:
    """'हिंदी = English' items, comma separated."""
    pairs = [item.split("=") for item in text.split(",")]
    return [(hindi.strip(), english.strip()) for hindi, english in pairs]
