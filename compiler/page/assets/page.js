/* Wires the page: the two graphs with their data, the choice of a node, search, keys, links.

   Everything that comes from a model is put into the page as text, never as markup. */

const $ = id => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const text = index => index === null ? "" : DATA.strings[index];
const SIDES = ["before", "after"];
const PRECISIONS = ["int8", "bf16", "fp32"];

/* ---- the graphs ------------------------------------------------------------------------------ */

class Side {
  constructor(name, data) {
    this.name = name;
    this.data = data;
    this.count = data.op.length;
    const consumers = Array.from({ length: this.count }, () => []);
    data.inputs.forEach((feeds, row) => {
      for (const feed of feeds) if (feed >= 0) consumers[feed].push(row);
    });
    this.consumers = consumers;
    this.haystack = data.op.map((op, row) => (text(op) + " " + text(data.name[row])).toLowerCase());
  }

  label(row) { return text(this.data.name[row]); }
  op(row) { return text(this.data.op[row]); }
  type(row) { return text(this.data.type[row]); }
  precision(row) { return text(this.data.precision[row]); }
  changed(row) {
    return this.name === "after" ? row in this.data.made : !this.keeps.has(row);
  }

  show(canvas) {
    const graph = {
      count: this.count, inputs: this.data.inputs, ends: this.data.ends,
      inside: new Map(Object.entries(this.data.inside).map(([row, [held, attribute]]) => [+row, [held, text(attribute)]])),
    };
    const drawing = layoutGraph(graph, item => this.size(item));
    this.items = new Map();
    for (const item of drawing.items) {
      if (item.kind === "op" || item.kind === "box") this.items.set(item.row, item);
    }
    this.view = new GraphView(canvas, drawing, {
      title: item => this.title(item),
      note: item => item.kind === "op" ? this.type(item.row) : "",
      mark: item => palette(this.category(item)),
    }, item => choose(this, item && (item.kind === "op" || item.kind === "box") ? item.row : null));
    canvas.addEventListener("keydown", event => key(this, event));
    new ResizeObserver(() => this.view.resize()).observe(canvas);
    this.view.resize();
  }

  title(item) {
    return item.kind === "input" ? text(this.data.ends.inputs[item.row][0])
      : item.kind === "output" ? text(this.data.ends.outputs[item.row][0]) : this.op(item.row);
  }

  size(item) {
    const ends = this.title(item), note = item.kind === "op" ? this.type(item.row) : "";
    const wide = Math.max(width(ends, "600 12px"), width(note, "10.5px"));
    return [Math.round(Math.min(220, Math.max(56, wide + 22))), item.kind === "op" ? (note ? 38 : 26) : 24];
  }

  category(item) {
    if (item.kind === "input" || item.kind === "output") return "end";
    if ($("color").value === "change") return this.changed(item.row) ? "changed" : "kept";
    const precision = this.precision(item.row);
    return PRECISIONS.includes(precision) ? precision : "other";
  }
}

const widths = new Map(), ruler = document.createElement("canvas").getContext("2d");
function width(words, font) {
  const name = font + words;
  if (!widths.has(name)) {
    ruler.font = font + " system-ui, sans-serif";
    widths.set(name, ruler.measureText(words.slice(0, 60)).width);
  }
  return widths.get(name);
}

let colors = {};
function palette(name) {
  return colors[name] || (colors[name] = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
}

const sides = {};
for (const name of SIDES) if (DATA[name]) sides[name] = new Side(name, DATA[name]);
const { before, after } = sides;

/* What became of the source's operations: rows of the result by row of the source. */
const fates = new Map();
if (before) before.keeps = new Set();
if (after) {
  for (const [row, sources] of Object.entries(after.data.sources)) {
    for (const source of sources) if (typeof source === "number") link(fates, source, +row);
  }
  const names = new Map();
  if (before) before.data.name.forEach((name, row) => link(names, name, row));
  after.data.name.forEach((name, row) => {
    if (row in after.data.made) return;
    const rows = names.get(name) || [];
    if (rows.length !== 1) return; // an ambiguous name tells nothing
    link(fates, rows[0], row);
    before.keeps.add(rows[0]);
  });
}

function link(map, from, to) {
  if (!map.has(from)) map.set(from, []);
  map.get(from).push(to);
}

/* Rows of the other graph that belong to a row of this one. */
function others(side, row) {
  if (side === before) return fates.get(row) || [];
  const sources = (after.data.sources[row] || []).filter(source => typeof source === "number");
  if (sources.length || row in after.data.made || !before) return sources;
  return [...before.keeps].filter(source => (fates.get(source) || []).includes(row));
}

/* ---- choosing a node ------------------------------------------------------------------------- */

let chosen = null;

function choose(side, row, { move = false } = {}) {
  chosen = row === null ? null : { side, row };
  for (const each of Object.values(sides)) {
    if (!each.view) continue;
    each.view.selected = each === side && row !== null ? each.items.get(row) : null;
    const rows = row === null || each === side ? [] : others(side, row);
    each.view.linked = new Set(rows.map(found => each.items.get(found)));
    const first = rows.length ? each.items.get(rows[0]) : null;
    if (first && !each.view.shows(first)) each.view.center(first);
    each.view.draw();
  }
  if (row !== null && (move || !side.view.shows(side.items.get(row)))) side.view.center(side.items.get(row));
  describe();
  const mark = row === null ? "#graph" : `#${side.name}.${row}`;
  if (location.hash !== mark && (row !== null || location.hash.includes("."))) history.replaceState(null, "", mark);
}

function element(name, words, attributes = {}) {
  const made = document.createElement(name);
  if (words) made.textContent = words;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function nodeLink(side, row) {
  return element("a", side.label(row), { href: `#${side.name}.${row}`, class: "name" });
}

function describe() {
  const panel = $("details");
  panel.replaceChildren();
  if (!chosen) {
    panel.append(element("p", "Click an operation, or search, to see its reason, where it comes from and what it became.", { class: "hint" }));
    return;
  }
  const { side, row } = chosen, data = side.data;
  panel.append(element("p", side === after ? "After" : "Before", { class: "eyebrow" }), element("h3", side.op(row)),
               element("p", side.label(row), { class: "name whole" }));
  const list = element("dl");
  panel.append(list);
  const fact = (term, ...values) => {
    if (!values.some(value => value)) return;
    const cell = element("dd");
    cell.append(...values);
    list.append(element("dt", term), cell);
  };
  const links = (term, found, of) => {
    if (!found.length) return;
    const cells = element("ul");
    for (const item of found.slice(0, 40)) {
      const entry = element("li");
      if (typeof item === "number") entry.append(nodeLink(of, item), " ", element("span", of.op(item), { class: "by" }));
      else entry.append(element("span", text(+item.slice(1)), { class: "name" }));
      cells.append(entry);
    }
    if (found.length > 40) cells.append(element("li", `and ${found.length - 40} more`));
    fact(`${term}${found.length > 1 ? ` (${found.length})` : ""}`, cells);
  };
  fact("Output type", side.type(row));
  const more = side === after ? data.facts[row] || {} : {};
  const precision = element("span", side.precision(row), { class: "chip " + (side.category({ kind: "op", row })) });
  if ($("color").value === "change") precision.className = "chip";
  fact("Precision", precision, side === after ? ": " + text(data.reason[row]) : "");
  for (const [term, value] of Object.entries(more)) fact(term, typeof value === "number" ? text(value) : value);
  if (side === after) {
    if (row in data.made) fact("Made by", data.made[row].map(text).join(" ← "));
    else fact("Made by", "as in the source model");
    const sources = (data.sources[row] || []).map(s => typeof s === "number" ? s : "s" + s[0]);
    links("From", sources.length ? sources : others(side, row), before);
  } else {
    const rows = others(side, row);
    if (rows.length) links("Became", rows, after);
    else if (after) fact("Became", "nothing in the result comes from it: it was folded into constants, or had no effect");
  }
  links("Fed by", data.inputs[row].filter(feed => feed >= 0), side);
  links("Feeds", side.consumers[row], side);
  if (row in data.inside) links(`Inside ${text(data.inside[row][1])} of`, [data.inside[row][0]], side);
  for (const [family, reason, rows] of (DATA.missed || [])) {
    if (rows[side.name] && rows[side.name].includes(row)) fact("Not done", `${text(family)}: ${text(reason)}`);
  }
}

/* ---- search ---------------------------------------------------------------------------------- */

let hits = [], hit = -1;

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(word => word);
  hits = [];
  hit = -1;
  for (const side of shown()) {
    const rows = [];
    if (words.length) side.haystack.forEach((hay, row) => { if (words.every(word => hay.includes(word))) rows.push(row); });
    side.view.found = words.length ? new Set(rows.map(row => side.items.get(row))) : null;
    hits.push(...rows.map(row => ({ side, row })));
    side.view.draw();
  }
  say(words.length ? `${hits.length} ${hits.length === 1 ? "operation" : "operations"}` : "");
}

function step(by) {
  if (!hits.length) return;
  hit = (hit + by + hits.length) % hits.length;
  const { side, row } = hits[hit];
  choose(side, row, { move: true });
  say(`${hit + 1} of ${hits.length}: ${side.op(row)} ${side.label(row)}, ${side.name}`);
}

function say(words) { $("status").textContent = words; }

/* ---- keys ------------------------------------------------------------------------------------ */

function key(side, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const view = side.view, here = chosen && chosen.side === side ? chosen.row : null;
  const keys = {
    "+": () => view.zoom(1.25), "=": () => view.zoom(1.25), "-": () => view.zoom(0.8), "0": () => view.fit(),
    Home: () => view.pan(0, 1e9), End: () => view.pan(0, -1e9),
    PageUp: () => view.pan(0, view.canvas.clientHeight * 0.8), PageDown: () => view.pan(0, -view.canvas.clientHeight * 0.8),
    ArrowUp: () => walk(side, here, -1), ArrowDown: () => walk(side, here, 1),
    ArrowLeft: () => aside(side, here, -1), ArrowRight: () => aside(side, here, 1),
    Enter: () => $("details").focus(), Escape: () => choose(side, null),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

function walk(side, row, by) {
  const start = side.view.drawing.items.find(item => side.items.get(item.row) === item);
  if (row === null) { if (start) pick(side, start.row); return; }
  const found = by > 0 ? side.consumers[row] : side.data.inputs[row].filter(feed => feed >= 0);
  if (found.length) pick(side, found[0]);
}

/* The next operation in the same layer. */
function aside(side, row, by) {
  if (row === null) return walk(side, row, by);
  const here = side.items.get(row);
  const layer = [...side.items.values()].filter(item => Math.abs(item.y - here.y) < 2 && (item.x - here.x) * by > 0);
  layer.sort((a, b) => Math.abs(a.x - here.x) - Math.abs(b.x - here.x));
  if (layer.length) pick(side, layer[0].row);
}

function pick(side, row) {
  choose(side, row);
  say(`${side.op(row)} ${side.label(row)}, ${side.precision(row)}`);
}

/* ---- controls -------------------------------------------------------------------------------- */

const shown = () => Object.values(sides).filter(side => side.view && side.view.canvas.clientWidth);

function mode(name) {
  $("stage").dataset.mode = name;
  for (const button of document.querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", String(button.dataset.show === name));
  }
  for (const side of Object.values(sides)) if (side.view) side.view.resize();
  search();
}

function follow() {
  const [name, row] = location.hash.slice(1).split(".");
  const side = sides[name];
  if (!side || !side.view || !(+row >= 0 && +row < side.count)) return;
  if (!side.view.canvas.clientWidth) mode(name);
  $("graph").scrollIntoView({ block: "start" });
  choose(side, +row, { move: true });
}

function legend() {
  const change = $("color").value === "change";
  $("legend").replaceChildren(...(change ? ["changed", "kept"] : [...PRECISIONS, "other"]).map(name => {
    const words = { changed: "rewritten by a pass", kept: "as in the source", other: "other", int8: "INT8", bf16: "BF16", fp32: "FP32" };
    return element("li", words[name], { class: "key " + name });
  }));
}

function repaint() {
  colors = {};
  for (const side of Object.values(sides)) if (side.view) side.view.recolor();
}

function wire() {
  for (const button of document.querySelectorAll("[data-show]")) button.onclick = () => mode(button.dataset.show);
  const active = () => shown().find(side => side.view.canvas === document.activeElement);
  const all = act => { const one = active(); (one ? [one] : shown()).forEach(side => act(side.view)); };
  $("zoom-in").onclick = () => all(view => view.zoom(1.25));
  $("zoom-out").onclick = () => all(view => view.zoom(0.8));
  $("zoom-fit").onclick = () => all(view => view.fit());
  $("color").onchange = () => { legend(); repaint(); describe(); };
  $("search").oninput = search;
  $("search").onkeydown = event => {
    if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : 1); }
    if (event.key === "Escape") { $("search").value = ""; search(); }
  };
  document.addEventListener("keydown", event => {
    if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    $("search").focus();
    $("search").select();
  });
  document.addEventListener("click", event => {
    const anchor = event.target.closest("a[href*='.']");
    // The same link twice changes no hash, and is still meant.
    if (anchor && anchor.getAttribute("href") === location.hash) follow();
  });
  window.addEventListener("hashchange", follow);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  for (const moment of ["beforeprint", "afterprint"]) {
    window.addEventListener(moment, () => {
      // Paper is light; the canvas is drawn before the style sheet is that of paper.
      document.documentElement.classList.toggle("printing", moment === "beforeprint");
      colors = {};
      for (const side of Object.values(sides)) if (side.view) { side.view.overview = null; side.view.paint(); }
    });
  }
}

function begin() {
  if (!before && !after) return;
  legend();
  wire();
  describe();
  const both = before && after && $("stage").clientWidth >= 900;
  const open = (side, mark) => {
    side.show($("canvas-" + side.name));
    mode(both ? "both" : after ? "after" : "before");
    if (chosen) choose(chosen.side, chosen.row); else follow();
    $("stage").dataset[mark] = String(Math.round(performance.now())); // ms since it was asked for
  };
  open(after || before, "shown");
  // The second graph does not keep the first one waiting.
  requestAnimationFrame(() => setTimeout(() => {
    if (before && after) open(before, "ready");
    else $("stage").dataset.ready = $("stage").dataset.shown;
  }));
}

begin();
