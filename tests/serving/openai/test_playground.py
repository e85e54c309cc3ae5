"""The page in a real browser: Debian's chromium, driven by Playwright, against a real server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.openai.fake import FakeModel, served
from tests.serving.openai.process import Process
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("server")

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt-get install chromium)")
PAGE = Path(__file__).resolve().parents[3] / "flan_lora" / "serving" / "playground"
HAPPY = "i feel so happy that the whole family came to visit"


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    """A page that fails the test when its script does, or when something of it is blocked."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.set_default_timeout(30_000)
    problems: list[str] = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda line: problems.append(line.text) if "Content Security" in line.text else None)
    made.on("request", lambda request: problems.append(request.url) if "127.0.0.1" not in request.url else None)
    yield made
    context.close()
    assert [each for each in problems if not each.startswith("data:")] == []


def opened(page: playwright.Page, url: str) -> None:
    page.goto(url)
    page.locator("#model option").first.wait_for(state="attached")


def ask(page: playwright.Page, text: str) -> None:
    page.get_by_label("Text").fill(text)
    page.get_by_role("button", name="Ask", exact=True).click()


def status(page: playwright.Page, text: str) -> None:
    page.locator("#status", has_text=text).wait_for()


def test_the_page_names_nothing_from_elsewhere_and_runs_no_text_as_html() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in PAGE.glob("*.*") if path.suffix != ".py"}
    assert set(sources) == {"index.html", "app.js", "style.css"}
    for name, text in sources.items():
        outside = [url for url in re.findall(r"https?://[^\s\"'`)]+", text) if "www.w3.org/2000/svg" not in url]
        assert outside == [], name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        ), name
    assert not re.search(r"<script(?! src=)|<style| style=| on\w+=", sources["index.html"])


def test_the_page_comes_with_a_policy_that_allows_only_itself(mini: Process) -> None:
    for path in ("/", "/playground/app.js", "/playground/style.css"):
        response = httpx.get(f"{mini.url}{path}")
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"


@needs_chromium
def test_a_text_is_asked_and_its_labels_are_bars(page: playwright.Page, mini: Process) -> None:
    opened(page, mini.url)
    page.get_by_label("Model").select_option("emotion")
    ask(page, HAPPY)
    status(page, "Done.")
    answer = page.locator(".answer")
    assert answer.locator(".text").inner_text() == "joy"
    bars = answer.locator(".bars li")
    assert bars.count() == 6 and bars.first.inner_text().startswith("joy")
    widths = [bars.nth(place).locator(".fill").bounding_box()["width"] for place in range(2)]  # type: ignore[index]
    assert widths[0] > 10 * widths[1]
    assert re.search(r"\d+ tokens read, \d+ written", answer.locator(".counts").inner_text())


@needs_chromium
def test_the_card_shows_scores_curves_and_examples_that_can_be_asked(page: playwright.Page, mini: Process) -> None:
    opened(page, mini.url)
    page.get_by_label("Model").select_option("emotion")
    page.locator("#card-facts dd").first.wait_for()
    manifest = httpx.get(f"{mini.url}/v1/models/emotion/card").json()["manifest"]
    row = page.locator("#card-scores tbody tr", has=page.locator("th", has_text="accuracy")).inner_text()
    assert f"{manifest['scores']['accuracy']['value']:.3f}" in row
    assert page.locator("#curves svg").count() == 2
    assert "by step" in (page.locator("#curves svg").first.get_attribute("aria-label") or "")
    page.locator("#examples button").first.click()
    assert page.get_by_label("Text").input_value() == page.locator("#examples button").first.inner_text()


@needs_chromium
def test_base_and_adapter_answer_side_by_side(page: playwright.Page, mini: Process) -> None:
    opened(page, mini.url)
    page.get_by_label("Model").select_option("emotion")
    page.get_by_text("Compare side by side").click()
    page.get_by_label("mini, the bare base").check()
    ask(page, HAPPY)
    status(page, "Done.")
    columns = page.locator(".answer")
    assert [columns.nth(place).locator("h3").inner_text() for place in range(2)] == ["emotion", "mini"]
    left, right = (columns.nth(place).bounding_box() for place in range(2))
    assert left is not None and right is not None and right["x"] > left["x"] and right["y"] == left["y"]


@needs_chromium
def test_switching_the_model_switches_its_inputs(page: playwright.Page, mini: Process) -> None:
    opened(page, mini.url)
    page.get_by_label("Model").select_option("qa")
    page.get_by_label("Context").fill("Ann came to Paris on Monday.")
    page.get_by_label("Question").fill("Where did Ann come to?")
    page.get_by_label("Question").press("Control+Enter")
    status(page, "Done.")
    assert page.locator(".answer .text").inner_text()
    page.get_by_label("Model").select_option("auto")
    ask(page, HAPPY)
    page.locator(".answer h3", has_text="auto: emotion").wait_for()
    page.get_by_label("Model").select_option(label="a mix of adapters")
    for name in ("emotion", "paraphrase", "similarity", "summarization"):
        field = page.locator(f"#weight-{name}")
        if field.count():
            field.fill("0.5" if name == "emotion" else "0")
    ask(page, HAPPY)
    status(page, "Done.")
    assert page.locator(".answer .text").inner_text() == "joy"


@needs_chromium
def test_the_request_as_code_is_the_request(page: playwright.Page, mini: Process) -> None:
    opened(page, mini.url)
    page.get_by_label("Model").select_option("emotion")
    page.get_by_label("Text").fill('it\'s "fine"\nreally')
    shown = page.locator("#curl").inner_text()
    assert shown.startswith(f"curl {mini.url}/v1/completions")
    body = json.loads(shown[shown.index("-d '") + 4 : -1].replace("'\\''", "'"))
    assert body == {"model": "emotion", "prompt": 'it\'s "fine"\nreally', "label_probabilities": True}
    code = page.locator("#python").inner_text()
    names: dict[str, object] = {}
    exec(
        compile(code.replace("print(answer.choices[0].text)", "text = answer.choices[0].text"), "page", "exec"),
        names,
    )
    assert names["text"] in {"joy", "sadness", "anger", "fear", "love", "surprise"}


@needs_chromium
def test_text_streams_in_and_stops_and_is_never_html(page: playwright.Page) -> None:
    hostile = "<img src=x onerror=alert(1)> <b>bold</b>"
    with served(FakeModel(step_s=0.05)) as server:
        opened(page, server.url)
        page.get_by_label("Model").select_option("mini")
        ask(page, " ".join(hostile.split()[::-1]))
        status(page, "Done.")
        assert page.locator(".answer .text").inner_text() == hostile
        assert page.locator(".answer img, .answer b").count() == 0
        server.model.step_s = 0.2
        ask(page, " ".join(f"w{place}" for place in range(200)))
        page.locator(".answer .text", has_text="w198").wait_for()
        page.keyboard.press("Escape")
        status(page, "Stopped.")
        wait_until(lambda: not server.model.running)


@needs_chromium
def test_errors_and_keys_are_said_where_they_are_read(page: playwright.Page) -> None:
    with served(api_keys=("secret",)) as server:
        page.goto(server.url)
        status(page, "Enter the API key")
        assert page.get_by_label("API key").is_visible()
        page.get_by_label("API key").fill("secret")
        page.get_by_label("API key").press("Tab")
        page.locator("#model option").first.wait_for(state="attached")
        page.get_by_label("Model").select_option("mini")
        ask(page, "unreadable")
        page.locator(".answer .error", has_text="the text cannot be read.").wait_for()
        assert "$FLAN_LORA_API_KEY" in page.locator("#curl").inner_text()
        assert "secret" not in page.locator("#curl").inner_text() + page.locator("#python").inner_text()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_in_both_schemes(browser: playwright.Browser, mini: Process, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    opened(page, mini.url)
    page.locator("#card-facts dd").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    scores = page.locator("#card-panel .scroll")
    assert scores.evaluate("each => each.scrollWidth - each.clientWidth") == 0, (
        "a column of the scores is out of sight"
    )
    ground, text = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    brightness = [sum(map(int, re.findall(r"\d+", value)[:3])) for value in (ground, text)]
    assert (brightness[0] > brightness[1]) == (scheme == "light") and abs(brightness[0] - brightness[1]) > 400
    context.close()


@needs_chromium
def test_everything_can_be_reached_by_keyboard_and_has_a_name(page: playwright.Page, mini: Process) -> None:
    opened(page, mini.url)
    page.locator("#card-facts dd").first.wait_for()
    for field in page.locator("input, select, textarea, button").all():
        if field.is_visible():
            name = field.evaluate("each => each.labels?.length ? each.labels[0].textContent : each.textContent")
            assert name.strip(), field.evaluate("each => each.outerHTML")
    page.get_by_label("Text").focus()
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
    assert seen[:3] == ["Options", "Compare side by side", "Ask"]
