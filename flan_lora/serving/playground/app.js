"use strict";
// The playground. Everything that a model wrote goes through textContent: it is text, never HTML.

const AUTO = "auto";
const MIX = " mix";  // no model's name has a space in it
const byId = (id) => document.getElementById(id);
const state = { base: null, adapters: [], abort: null };

// Elements

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "className" || name === "textContent" || name === "hidden" || name === "type" || name === "value"
        || name === "checked" || name === "id" || name === "htmlFor") made[name] = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function svg(tag, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

// The server

function headers() {
  const key = byId("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function failure(response) {
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* no body of ours: the status says it */ }
  const error = new Error(message);
  error.status = response.status;
  return error;
}

async function get(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw await failure(response);
  return response.json();
}

// Server-sent events of one streamed request; yields parsed data until [DONE].
async function* events(body, signal) {
  const response = await fetch("/v1/completions", {
    method: "POST", headers: headers(), body: JSON.stringify(body), signal,
  });
  if (!response.ok) throw await failure(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the connection closed before the answer was whole.");
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const data = JSON.parse(line.slice(6));
      if (data.error) throw new Error(data.error.message);
      yield data;
    }
  }
}

// Models

async function connect() {
  try {
    const listed = (await get("/v1/models")).data;
    state.base = listed.find((model) => model.parent === null);
    state.adapters = listed.filter((model) => model.parent !== null);
    byId("served").textContent = `${state.base.id} and ${state.adapters.length} adapters`;
    showModels();
    status("Nothing asked yet.");
  } catch (error) {
    if (error.status === 503) {
      status("The server is starting; this page waits for it.");
      setTimeout(connect, 1000);
      return;
    }
    byId("key-field").hidden = error.status !== 401 && !byId("key").value;
    byId("served").textContent = "Not connected";
    status(error.status === 401 ? "Enter the API key of this server." : error.message, error.status !== 401);
    if (error.status === 401) byId("key").focus();
  }
}

function showModels() {
  const select = byId("model");
  const before = select.value;
  const option = (value, text) => element("option", { value, textContent: text });
  const group = (label, options) => { const made = element("optgroup", { label }); made.append(...options); return made; };
  const routable = state.adapters.some((model) => model.routable);
  select.replaceChildren(
    group("Adapters", state.adapters.map((model) => option(model.id, model.id))),
    group("More", [
      ...(routable ? [option(AUTO, "auto: by the text")] : []),
      ...(state.adapters.length > 1 ? [option(MIX, "a mix of adapters")] : []),
      option(state.base.id, `${state.base.id}: the bare base`),
    ]),
  );
  if ([...select.options].some((each) => each.value === before)) select.value = before;
  const sharing = state.adapters.filter((model) => model.inputs.length === 1);
  byId("mix-weights").replaceChildren(...sharing.map((model, place) => {
    const id = `weight-${model.id}`;
    return element("div", { className: "weight" },
      element("label", { htmlFor: id, textContent: model.id }),
      element("input", { id, type: "number", step: "0.1", value: place < 2 ? "0.5" : "0", "data-mix": model.id,
        oninput: refresh }));
  }));
  chooseModel();
}

const adapter = (name) => state.adapters.find((model) => model.id === name);

function mix() {
  const weights = {};
  for (const input of document.querySelectorAll("[data-mix]")) {
    if (Number(input.value)) weights[input.dataset.mix] = Number(input.value);
  }
  return weights;
}

function heaviest() {
  const weights = Object.entries(mix());
  return weights.length ? weights.reduce((a, b) => (Math.abs(b[1]) > Math.abs(a[1]) ? b : a))[0] : null;
}

// The adapter whose prompt and card count for what is chosen; null for the base and auto.
const asked = () => adapter(byId("model").value === MIX ? heaviest() : byId("model").value) || null;

function chooseModel() {
  const value = byId("model").value;
  const own = asked();
  byId("mix").hidden = value !== MIX;
  byId("model-hint").textContent = value === AUTO ? "The text decides which adapter answers; the answer names it."
    : value === MIX ? "Asked in the prompt of the heaviest."
    : own ? own.summary : "No adapter, no prompt of its own: the text goes in as it is.";
  showInputs(own ? own.inputs : ["text"]);
  showRivals(own);
  showCard(value === MIX ? null : own);
  refresh();
}

function showInputs(names) {
  const before = {};
  for (const area of byId("inputs").querySelectorAll("textarea")) before[area.dataset.input] = area.value;
  byId("inputs").replaceChildren(...names.map((name) => element("div", { className: "field" },
    element("label", { htmlFor: `input-${name}`, textContent: name[0].toUpperCase() + name.slice(1) }),
    element("textarea", { id: `input-${name}`, "data-input": name, value: before[name] || "", oninput: refresh,
      required: "", rows: names.length > 1 && name !== "context" ? "2" : "4" }))));
}

function showRivals(own) {
  const same = (model) => own && model.id !== own.id && model.inputs.join() === own.inputs.join();
  const rivals = own ? [state.base, ...state.adapters.filter(same)] : state.adapters.filter((m) => m.inputs.length === 1);
  byId("rivals").replaceChildren(...rivals.map((model) => element("label", { className: "check" },
    element("input", { type: "checkbox", "data-rival": model.id }),
    model === state.base ? `${model.id}, the bare base under the same prompt` : model.id)));
}

// Requests

function inputs() {
  const areas = [...byId("inputs").querySelectorAll("textarea")];
  return Object.fromEntries(areas.map((area) => [area.dataset.input, area.value]));
}

function number(id) {
  const text = byId(id).value.trim();
  return text === "" ? null : Number(text);
}

function requestFor(model, task = null) {
  const given = inputs();
  const names = Object.keys(given);
  const body = { model: model === MIX ? state.base.id : model };
  if (names.length === 1) body.prompt = given[names[0]];
  else body.inputs = given;
  if (model === MIX) body.adapter_mix = mix();
  if (task) body.task = task;
  if (number("max-tokens")) body.max_tokens = number("max-tokens");
  if (number("temperature")) body.temperature = number("temperature");
  if (number("seed") !== null) body.seed = number("seed");
  const own = model === MIX ? asked() : adapter(model);
  const labels = task ? (asked() || {}).labels : own && own.labels;
  if ((labels && labels.length) || model === AUTO) body.label_probabilities = true;
  return body;
}

async function ask() {
  stop();
  const abort = state.abort = new AbortController();
  const chosen = byId("model").value;
  const own = asked();
  const runs = [[chosen === MIX ? "mix" : chosen, requestFor(chosen)]];
  for (const box of document.querySelectorAll("[data-rival]:checked")) {
    const isBase = box.dataset.rival === state.base.id;
    runs.push([box.dataset.rival, requestFor(box.dataset.rival, isBase && own ? own.task : null)]);
  }
  byId("stop").disabled = false;
  byId("answers").replaceChildren();
  status("Answering");
  const ends = await Promise.all(runs.map(([title, body]) => answer(title, body, abort.signal)));
  if (state.abort !== abort) return;  // a later question has taken the page over
  state.abort = null;
  byId("stop").disabled = true;
  status(abort.signal.aborted ? "Stopped." : ends.every(Boolean) ? "Done." : "Not every model answered.");
}

function stop() {
  if (state.abort) state.abort.abort();
}

// One column: the text as it comes, then what is known of it.
async function answer(title, body, signal) {
  const text = element("p", { className: "text", "aria-live": "polite" });
  const heading = element("h3", { textContent: title });
  const column = element("article", { className: "answer", "aria-busy": "true" }, heading, text);
  byId("answers").append(column);
  const start = performance.now();
  let first = null;
  try {
    for await (const data of events({ ...body, stream: true, stream_options: { include_usage: true } }, signal)) {
      if (body.model === AUTO) heading.textContent = `auto: ${data.model}`;
      for (const choice of data.choices) {
        if (choice.text) first ??= performance.now() - start;
        text.append(choice.text);
        if (choice.label_probabilities) column.append(bars(choice.label_probabilities));
        if (choice.route) column.append(element("p", { className: "counts", textContent: choice.route.reason }));
      }
      if (data.usage) column.append(counts(data.usage, performance.now() - start, first));
    }
    return true;
  } catch (error) {
    if (error.name !== "AbortError") column.append(element("p", { className: "error", textContent: error.message }));
    if (error.status === 401) byId("key-field").hidden = false;
    return false;
  } finally {
    column.setAttribute("aria-busy", "false");
  }
}

function counts(usage, total, first) {
  const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`;
  const after = first === null ? "" : `, first text after ${seconds(first)}`;
  return element("p", { className: "counts",
    textContent: `${usage.prompt_tokens} tokens read, ${usage.completion_tokens} written in ${seconds(total)}${after}` });
}

function bars(shares) {
  const sorted = Object.entries(shares).sort((a, b) => b[1] - a[1]);
  return element("ul", { className: "bars", "aria-label": "Label probabilities" }, ...sorted.map(([name, share]) => {
    const fill = element("div", { className: "fill" });
    fill.style.width = `${100 * share}%`;
    return element("li", {}, element("span", { className: "name", textContent: name }),
      element("div", { className: "track", "aria-hidden": "true" }, fill),
      element("span", { className: "share", textContent: `${(100 * share).toFixed(1)} %` }));
  }));
}

// Card

async function showCard(own) {
  byId("card-panel").hidden = own === null;
  if (own === null) return;
  let card;
  try {
    card = await get(`/v1/models/${encodeURIComponent(own.id)}/card`);
  } catch (error) {
    status(error.message, true);
    return;
  }
  if (asked() !== own) return;  // another model was chosen meanwhile
  byId("card-title").textContent = own.id;
  byId("card-summary").textContent = own.summary;
  showFacts(card.manifest, own);
  showScores(card.metrics);
  byId("curves").replaceChildren(...Object.entries(card.curves).map(([title, points]) => curve(title, points)));
  showExamples(card.metrics ? card.metrics.examples : []);
}

function showFacts(manifest, own) {
  const { recipe, training, data } = manifest;
  const facts = {
    Task: `${own.task}, prompt version ${manifest.task_version}`,
    LoRA: `rank ${recipe.lora.rank}, alpha ${recipe.lora.alpha}, on ${[].concat(recipe.lora.target_modules).join(", ")}`,
    Training: `${training.num_steps.toLocaleString("en")} steps, ${data.num_train_rows.toLocaleString("en")} rows, seed ${training.seed}`,
    Data: data.origin,
    Published: manifest.created_at,
    Digest: own.digest.slice(0, 16),
  };
  byId("card-facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) =>
    [element("dt", { textContent: name }), element("dd", { textContent: value })]));
}

function showScores(metrics) {
  byId("card-scores").parentElement.hidden = metrics === null;
  if (metrics === null) return;
  const digits = (value) => value.toFixed(Math.abs(value) <= 1 ? 3 : 1);
  const cell = (score, name = "") => !score ? element("td", { textContent: "-" })
    : element("td", {}, `${digits(score.value)}${name}`,
      element("span", { className: "interval", textContent: `${digits(score.low)} to ${digits(score.high)}` }));
  const best = (score) => Object.entries(metrics.baselines).filter(([, own]) => own[score])
    .sort((a, b) => b[1][score].value - a[1][score].value)[0];
  const names = Object.keys(metrics.adapter).sort((a, b) => (b === metrics.select_on) - (a === metrics.select_on));
  byId("card-scores").tBodies[0].replaceChildren(...names.slice(0, 6).map((name) => {
    const baseline = best(name);
    return element("tr", {}, element("th", { scope: "row", textContent: name }), cell(metrics.adapter[name]),
      cell(metrics.base[name]), baseline ? cell(baseline[1][name], ` ${baseline[0]}`) : cell(null));
  }));
}

function curve(title, points) {
  const [width, height, left, bottom] = [420, 150, 44, 24];
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const last = Math.max(...xs);
  const x = (value) => left + (width - left - 8) * (value / (last || 1));
  const y = (value) => 10 + (height - bottom - 10) * (1 - (value - low) / (high - low || 1));
  const shown = (value) => Number(value.toPrecision(2)).toString();
  const label = `${title} by step: from ${shown(ys[0])} to ${shown(ys[ys.length - 1])} after ${last} steps`;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  drawing.append(
    svg("line", { class: "axis", x1: left, x2: width - 8, y1: height - bottom, y2: height - bottom }),
    svg("line", { class: "axis", x1: left, x2: left, y1: 10, y2: height - bottom }),
    svg("text", { x: left - 6, y: y(high) + 4, "text-anchor": "end" }, shown(high)),
    svg("text", { x: left - 6, y: y(low), "text-anchor": "end" }, shown(low)),
    svg("text", { x: left, y: height - 6 }, "0"),
    svg("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, `step ${last}`),
    svg("polyline", { class: "line", points: points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" ") }),
  );
  if (points.length <= 12) {  // a line through one point is none
    drawing.append(...points.map((p) => svg("circle", { class: "point", cx: x(p[0]), cy: y(p[1]), r: 3 })));
  }
  return element("figure", {}, element("figcaption", { textContent: title === "loss" ? "Training loss" : `${title} on validation rows` }), drawing);
}

function showExamples(examples) {
  const fill = (given) => {
    for (const area of byId("inputs").querySelectorAll("textarea")) area.value = given[area.dataset.input] || "";
    refresh();
    byId("send").focus();
  };
  byId("examples").replaceChildren(...(examples.length ? [
    element("h3", { textContent: "Examples to try" }),
    element("ul", { className: "examples" }, ...examples.map(({ inputs: given }) => {
      const text = Object.values(given).join(" / ");
      return element("li", {}, element("button", { type: "button", onclick: () => fill(given),
        textContent: text.length > 140 ? `${text.slice(0, 140)}...` : text }));
    })),
  ] : []));
}

// The request as code

function refresh() {
  if (!state.base) return;
  if (byId("model").value === MIX && !heaviest()) { byId("curl").textContent = byId("python").textContent = ""; return; }
  const body = requestFor(byId("model").value);
  const key = byId("key-field").hidden ? "" : ` \\\n  -H "Authorization: Bearer $FLAN_LORA_API_KEY"`;
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  byId("curl").textContent = `curl ${location.origin}/v1/completions${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
  byId("python").textContent = pythonFor(body);
}

function pythonFor(body) {
  const own = ["inputs", "adapter_mix", "task", "label_probabilities"];
  const literal = (value) => value === true ? "True" : value === false ? "False" : value === null ? "None"
    : Array.isArray(value) ? `[${value.map(literal).join(", ")}]`
    : typeof value === "object" ? `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${literal(v)}`).join(", ")}}`
    : JSON.stringify(value);
  const plain = Object.entries(body).filter(([name]) => !own.includes(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => own.includes(name)));
  if (!("prompt" in body)) plain.push(["prompt", ""]);
  const lines = plain.map(([name, value]) => `    ${name}=${literal(value)},`);
  if (Object.keys(extra).length) lines.push(`    extra_body=${literal(extra)},`);
  const key = byId("key-field").hidden ? '"none"' : 'os.environ["FLAN_LORA_API_KEY"]';
  const os = byId("key-field").hidden ? "" : "import os\n\n";
  return `${os}from openai import OpenAI\n\nclient = OpenAI(base_url="${location.origin}/v1", api_key=${key})\n`
    + `answer = client.completions.create(\n${lines.join("\n")}\n)\nprint(answer.choices[0].text)`;
}

async function copy(event) {
  const button = event.currentTarget;
  const source = byId(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    status(`Copied ${button.dataset.copy}.`);
  } catch {  // no clipboard outside https and localhost: select it, so that Ctrl + C does
    getSelection().selectAllChildren(source);
    status("Selected; press Ctrl + C.");
  }
}

function status(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

document.addEventListener("DOMContentLoaded", () => {
  byId("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  byId("stop").addEventListener("click", stop);
  byId("model").addEventListener("change", chooseModel);
  byId("key").addEventListener("change", connect);
  for (const id of ["max-tokens", "temperature", "seed"]) byId(id).addEventListener("input", refresh);
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", copy);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
  });
  connect();
});
