"""Four rows to validate on."""

from __future__ import annotations

import pytest

from flan_lora.data.splits import Split
from flan_lora.tasks import TASKS


@pytest.fixture(scope="module")
def validation() -> Split:
    task = TASKS["emotion"]
    texts = ["i am sad", "i am not sad", "joy to you", "what fear is"]
    examples = [task.examples({"text": text, "label": index % 6})[0] for index, text in enumerate(texts)]
    return Split(role="validation", examples=tuple(examples), origin="test", num_rows=4, content_hash="0" * 64)
