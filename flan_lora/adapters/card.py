"""The model card of a published adapter: front matter for the Hub and text, from manifest and metrics only."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence

import yaml

from flan_lora.adapters.emissions import estimate_emissions
from flan_lora.adapters.front_matter import DATA_TERMS, datasets_of, front_matter, has_labels
from flan_lora.adapters.manifest import DataRecord, Manifest, Metrics, ScoreRecord, Scores
from flan_lora.base.load import MINI, base_slug
from flan_lora.recipe import BaseSection
from flan_lora.tasks import Task, get_task

SHARES = re.compile(r"accuracy|macro_f1|.*_share|order_agreement")


def card(manifest: Manifest, metrics: Metrics, *, picture: str | None = None) -> str:
    """README.md of a published adapter: front matter that the Hub reads, then text for people.

    Every number comes from ``manifest`` and ``metrics``; the text says where the adapter does not win.

    Args:
        picture: file name of the training curve beside the card, if it was drawn.
    """
    sections = [
        _title(manifest),
        _results(manifest, metrics),
        *([_examples(metrics)] if metrics.examples else []),
        _usage(manifest),
        _limits(manifest),
        _training(manifest, picture) if manifest.composition is None else _composition(manifest),
        _data(manifest),
    ]
    front = yaml.safe_dump(front_matter(manifest, metrics), sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


# Sections


def _title(manifest: Manifest) -> str:
    lora = manifest.recipe["lora"]
    modules = ", ".join(f"`{name}`" for name in lora["target_modules"])
    kind = "DoRA" if lora["use_dora"] else "rank-stabilised LoRA" if lora["use_rslora"] else "LoRA"
    size = f", {manifest.training.num_trainable:,} trained parameters" if manifest.training.num_trainable else ""
    base = f"the base itself was frozen, in {manifest.base.quantization}"
    if manifest.composition is not None:
        names = ", ".join(f"`{part.name}`" for part in manifest.composition.parts)
        base = f"composed of {names}, without training; the base is in {manifest.base.quantization}"
    return (
        f"# {manifest.name}: a LoRA adapter for {_base_in_words(manifest)}\n\n"
        f"{_task_summary(manifest)}. A {kind} update of rank {lora['rank']} (alpha {lora['alpha']}) on "
        f"{modules}{size}; {base}."
    )


def _results(manifest: Manifest, metrics: Metrics) -> str:
    others = {"bare base": metrics.base, **metrics.baselines}
    others = {name: scores for name, scores in others.items() if scores}
    rows = [
        [
            f"**{name}**" if name == metrics.select_on else name,
            _number(score.value, manifest.task, name),
            f"{_number(score.low, manifest.task, name)} to {_number(score.high, manifest.task, name)}",
            *(_number_or_dash(scores.get(name), manifest.task, name) for scores in others.values()),
        ]
        for name, score in metrics.adapter.items()
    ]
    table = _table(["score", "this adapter", "95 % interval", *others], rows)
    scale = "from 0 to 1" if has_labels(manifest.task) else "from 0 to 100, shares from 0 to 1"
    chosen = "checkpoint" if manifest.composition is None else "weights"
    return (
        f"## Results\n\n{metrics.num_rows:,} test examples, {metrics.origin}; none of them served to train or to "
        f"choose the {chosen}. Scores are {scale}. Intervals come from a bootstrap over the examples: they hold "
        "the luck of the draw of examples, not that of the training seed.\n\n"
        f"{table}\n\n{_verdict(metrics, others)}{_calibration(metrics)}"
    )


def _verdict(metrics: Metrics, others: Mapping[str, Scores]) -> str:
    """One honest sentence: does the adapter beat what stands beside it?"""
    key = metrics.select_on
    rivals = {name: scores[key].value for name, scores in others.items() if key in scores}
    if key not in metrics.adapter or not rivals:
        return "Nothing stands beside these scores, so they do not show what the adapter adds."
    mine, best = metrics.adapter[key], max(rivals, key=rivals.__getitem__)
    if mine.low > rivals[best]:
        return f"On {key} the adapter beats all of them; the best of the others is the {_spoken(best)}."
    if mine.value > rivals[best]:
        return f"On {key} the lead over the {_spoken(best)} lies within the interval: it may be chance."
    return f"**On {key} the adapter does not beat the {_spoken(best)}.**"


def _calibration(metrics: Metrics) -> str:
    """Whether the probabilities of the labels can be believed."""
    found = metrics.calibration
    if found is None:
        return ""
    outcome = "" if found.ece_after <= found.ece_before else " Here it did not help."
    return (
        f"\n\nProbabilities of labels are served at temperature {found.temperature:.2f}, fitted on "
        f"{found.num_rows:,} validation examples. The expected calibration error, the mean gap between the "
        "probability of the likeliest label and how often it is right (0 is best), is "
        f"{found.ece_before:.3f} on test without the temperature and {found.ece_after:.3f} with it.{outcome}"
    )


def _examples(metrics: Metrics) -> str:
    """One line per example of the task's card."""
    cells = [
        [" / ".join(e.inputs.values()), e.expected, *(a or "(nothing)" for a in (e.adapter, e.base))]
        for e in metrics.examples
    ]
    table = _table(["text", "expected", "this adapter", "bare base"], [list(map(_one_line, row)) for row in cells])
    return (
        "## Examples\n\nTexts written for this card, no rows of the data. The answers are what the training run "
        f"generated, right or wrong, the bare base under the same prompt.\n\n{table}"
    )


def _usage(manifest: Manifest) -> str:
    return (
        "## Use\n\n"
        f"With flan_lora, which checks the files, the base and the prompt version"
        f"{', and decodes only labels' if has_labels(manifest.task) else ''}:\n\n"
        f"```python\n{_code_with_us(manifest)}```\n\n"
        f"Without it, with PEFT alone. {_plain_note(manifest)}\n\n"
        f"```python\n{_code_without_us(manifest)}```\n\n"
        "Of an adapter on the Hub, PEFT takes the id in place of the folder. Other runtimes take a merged model: "
        f"`flan-lora adapter merge {manifest.name} --out DIR`, or `flan-lora adapter export` for CTranslate2."
    )


def _code_with_us(manifest: Manifest) -> str:
    inputs = _sample_inputs(manifest)
    place = "" if _is_known(manifest.base.model) else f'"{_place(manifest)}"'
    given = json.dumps(next(iter(inputs.values())) if len(inputs) == 1 else inputs, ensure_ascii=False)
    return (
        "from flan_lora import Router, Store\n\n"
        f'store = Store("adapters/{_slug(manifest)}")\n'
        f'router = Router.open(store.root, store.open("{manifest.name}").open_base({place}))\n'
        f'print(router.generate({given}, adapter="{manifest.name}").text)\n'
    )


def _code_without_us(manifest: Manifest) -> str:
    is_pinned = manifest.base.revision and "/" in manifest.base.model
    revision = f', revision="{manifest.base.revision}"' if is_pinned else ""
    task = _task(manifest)
    prompt = str(task.prompt(_sample_inputs(manifest)))
    return (
        "import torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n\n"
        f'place = "{_place(manifest)}"\n'
        f"tokenizer = AutoTokenizer.from_pretrained(place{revision})\n"
        f"base = AutoModelForSeq2SeqLM.from_pretrained(place{revision}, dtype=torch.bfloat16)\n"
        f'model = PeftModel.from_pretrained(base, "adapters/{_slug(manifest)}/{manifest.name}")\n\n'
        f"prompt = {json.dumps(prompt, ensure_ascii=False)}\n"
        f'output = model.generate(**tokenizer(prompt, return_tensors="pt"), '
        f"max_new_tokens={task.max_new_tokens})\n"
        "print(tokenizer.decode(output[0], skip_special_tokens=True))\n"
    )


def _plain_note(manifest: Manifest) -> str:
    """What a reader must know who goes without the package."""
    notes = ["PEFT loads an adapter onto any base of the same shape without a word, so mind the base."]
    if manifest.base.quantization in ("int8", "nf4"):
        threshold = manifest.recipe["base"].get("int8_threshold", 0.0)
        how = f"int8 (bitsandbytes, threshold {threshold:g})" if manifest.base.quantization == "int8" else "nf4"
        notes.append(f"The scores above are with the base in {how}; in bfloat16, as here, answers may differ.")
    if has_labels(manifest.task):
        notes.append("Free generation, as here, can answer with something that is no label.")
    return " ".join(notes)


def _limits(manifest: Manifest) -> str:
    if manifest.base.model == MINI:
        base_limits = (
            "`mini` is a small base that ships inside flan_lora to try things out on a laptop. It knows far less "
            "than FLAN-T5; take the recipe to FLAN-T5-large for real work."
        )
    else:
        base_limits = "What the base got wrong or biased from its own training stays in it."
    limits = _task(manifest).card.limits
    return (
        "## Intended use and limits\n\n"
        f"Made for one thing: {_lower_first(_task_summary(manifest))}. {limits}\n\n"
        f"{base_limits} The adapter fits only the base with fingerprint `{manifest.base.fingerprint[:8]}` and the "
        f"prompt of task version {manifest.task_version}. Texts of other kinds than its test rows are untested."
    )


def _training(manifest: Manifest, picture: str | None) -> str:
    training, section = manifest.training, manifest.recipe["training"]
    found = estimate_emissions(training.seconds, training.device)
    picked = f"step {training.best_step:,} of {training.num_steps:,}"
    if training.select_on and training.best_score is not None:
        picked += f", by {training.select_on} on validation ({training.best_score:.4g})"
    facts = {
        "base": f"{manifest.base.model}, revision {manifest.base.revision or 'not pinned'}"
        if "/" in manifest.base.model
        else manifest.base.model,
        "base fingerprint": f"`{manifest.base.fingerprint}`",
        "optimizer": f"AdamW, peak learning rate {section['learning_rate']:g}, {section['lr_schedule']} decay, "
        f"{section['batch_size']} examples a step",
        "epochs": f"{section['epochs']:g}" if not section.get("max_steps") else f"{section['max_steps']} steps",
        "checkpoint": picked,
        "time": f"{training.seconds:,.0f} s on {training.device}, evaluations included",
        "precision": f"{training.precision} compute, base in {manifest.base.quantization}",
        "seed": str(training.seed),
        "recipe": f"`{manifest.recipe_fingerprint}`, in full in manifest.json",
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items())),
        "emissions": f"about {found.co2_g:.2g} g CO2, {found.energy_kwh:.2g} kWh; estimate: {found.assumptions}",
        "published": manifest.created_at,
    }
    table = _table(["", ""], [[name, value] for name, value in facts.items()])
    score = training.select_on or "the score"
    curve = f"\n\n![{score} on validation and losses by training step]({picture})" if picture else ""
    return f"## Training\n\n{table}{curve}"


def _composition(manifest: Manifest) -> str:
    """How an adapter was made that was not trained."""
    found, training = manifest.composition, manifest.training
    assert found is not None
    parts = _table(
        ["adapter", "weight", "sha256 of its weights"],
        [[f"`{part.name}`", f"{part.weight:g}", f"`{part.sha256[:16]}`"] for part in found.parts],
    )
    return (
        f"## Composition\n\n{parts}\n\n"
        f"The weights were searched without gradients (LoraHub, arXiv:2307.13269) on "
        f"{manifest.data.num_train_rows:,} rows: {found.num_evaluations} mixes in {training.seconds:,.0f} s on "
        f"{training.device}, seed {training.seed}. The loss on those rows is {found.loss:.3f} nats per token, "
        f"that of the bare base {found.base_loss:.3f}. The summed update was then cut to rank "
        f"{manifest.recipe['lora']['rank']} by SVD: {100 * found.relative_error:.1f} % of it is lost (Frobenius "
        f"norm), and {100 * found.equal_share:.1f} % of the test answers are word for word those of the mix. The "
        "terms of the adapters named above hold for this one too. Base fingerprint "
        f"`{manifest.base.fingerprint}`; published {manifest.created_at}."
    )


def _data(manifest: Manifest) -> str:
    data, datasets = manifest.data, datasets_of(manifest)
    if data.kind == "sample":
        terms = "The rows are the small sample that ships with flan_lora, made for it, under Apache-2.0."
    elif datasets:
        terms = " ".join(map(_terms, datasets))
        terms += " Whether weights trained on rows carry the terms of the rows is not settled: read them before"
        terms += " you pass the adapter on or earn money with it."
    else:
        terms = "The rows are the publisher's own file; ask them for its terms."
    return (
        f"## Data and licence\n\n{data.num_train_rows:,} training, {data.num_validation_rows:,} validation and "
        f"{data.num_test_rows:,} test examples; training rows: {data.origin}{_additions(data)} "
        f"(sha256 `{data.content_hash}`). "
        f"{terms} No row is part of the adapter's files."
    )


def _additions(data: DataRecord) -> str:
    """What auxiliary sources added."""
    added = [f"{item.num_rows:,} of {item.origin}" for item in data.also if item.num_rows]
    return f", and {', '.join(added)}" if added else ""


def _terms(dataset: str) -> str:
    said = DATA_TERMS.get(dataset)
    return f"{dataset} is {said}." if said else f"For the terms of {dataset} see its page on the Hub."


# Words and places


def _sample_inputs(manifest: Manifest) -> dict[str, str]:
    """Something for every input, for the code."""
    task = _task(manifest)
    return {name: task.card.sample_inputs.get(name, f"your {name}") for name in task.inputs}


def _task(manifest: Manifest) -> Task:
    """In the script that the base reads."""
    return get_task(manifest.task, romanise=manifest.recipe.get("data", {}).get("romanise") is not False)


def _task_summary(manifest: Manifest) -> str:
    return _task(manifest).summary.rstrip(".")


def _is_known(base: str) -> bool:
    """Whether everybody can find a base by its name: on the Hub, or embedded."""
    return base == MINI or "/" in base


def _base_in_words(manifest: Manifest) -> str:
    model = manifest.base.model
    if "/" in model:
        return f"[{model}](https://huggingface.co/{model})"
    return (
        "`mini`, the base that is embedded in flan_lora" if model == MINI else f"`{model}`, a local T5 checkpoint"
    )


def _place(manifest: Manifest) -> str:
    """What the plain code loads the base from: a Hub id, or a folder."""
    model = manifest.base.model
    if model == MINI:
        return "flan_lora/mini/checkpoint"
    return model if "/" in model else f"path/to/{model}"


def _slug(manifest: Manifest) -> str:
    return base_slug(BaseSection(model=manifest.base.model))


def _spoken(name: str) -> str:
    return name if name == "bare base" else f"{name} baseline"


def _one_line(text: str) -> str:
    """A cell of a table: no line break, nothing that Markdown or HTML would read as its own."""
    return html.escape(" ".join(text.split()), quote=False).replace("*", "\\*").replace("_", "\\_")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _number(value: float, task: str, score: str) -> str:
    is_unit = has_labels(task) or SHARES.fullmatch(score)
    return f"{value:.3f}" if is_unit else f"{value:.1f}"


def _number_or_dash(score: ScoreRecord | None, task: str, name: str) -> str:
    return "-" if score is None else _number(score.value, task, name)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    cells = [list(header), ["---"] * len(header), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells)
