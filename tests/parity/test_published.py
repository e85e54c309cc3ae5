"""Published adapters of the embedded base, as they are served: 8 bit and bf16, against PEFT's model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.base.encode import encode_targets
from flan_lora.base.load import open_base
from flan_lora.recipe import BaseSection
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS

TEXTS = (
    "i feel so happy that the whole family came to visit",
    "i cannot believe that he lied to me again i am furious",
    "i keep thinking about the exam tomorrow and my hands shake",
    "i miss her every day",
    "i was not expecting this at all it left me speechless, and i do not know what to say to them now",
    "ok",
)


@pytest.mark.parametrize(("quantization", "tolerance"), [("int8", 0.03), ("bf16", 0.03), ("fp32", 1e-4)])
def test_a_published_adapter_reads_every_label_as_peft_does(
    repo: Path, quantization: str, tolerance: float
) -> None:
    """int8 and bf16 round each layer to three digits, ours after other sums than PEFT's."""
    spec = BaseSection.model_validate({"model": "mini", "quantization": quantization})
    base, task = open_base(spec, device="cpu"), TASKS["emotion"]
    router = Router.open(repo / "adapters" / "mini", base)
    served = router.generate(TEXTS, "emotion", label_probabilities=True)
    # PEFT puts its layers into the base: our engine holds the weights, and does not see them
    stored = Store(repo / "adapters" / "mini").open("emotion")
    model = load_adapter(base.model, stored)
    for text, completion in zip(TEXTS, served, strict=True):
        source = base.tokenizer(str(task.prompt({"text": text})), return_tensors="pt").input_ids
        scores = []
        for label in encode_targets(base.tokenizer, task.labels, 64):
            with torch.inference_mode():
                loss = model(input_ids=source, labels=torch.tensor([label.input_ids])).loss
            scores.append(-loss.float() * len(label.input_ids) / stored.manifest.label_temperature)
        assert completion.label_probabilities is not None
        found = torch.tensor(list(completion.label_probabilities.values()))
        torch.testing.assert_close(found, torch.stack(scores).softmax(0), rtol=0, atol=tolerance)
