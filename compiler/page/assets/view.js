/* One graph on a canvas: draws what is in sight, pans, zooms, picks. It knows boxes and marks, and
   nothing of what they mean. */

class GraphView {
  /* canvas: where to draw; drawing: what layoutGraph returned; look: how items look:
     {title(item), note(item), mark(item) -> CSS colour}; picked(item or null): told of clicks. */
  constructor(canvas, drawing, look, picked) {
    Object.assign(this, { canvas, drawing, look, picked });
    this.selected = null;
    this.linked = new Set();
    this.found = null; // set of items that a search found; null without a search
    this.scale = 1;
    this.x = this.y = 0; // place of the drawing's origin on the canvas
    this.touched = false; // whether the reader has moved it
    this.strip = 30; // width of the overview at the right edge
    this.listen();
  }

  /* ---- geometry ------------------------------------------------------------------------------ */

  resize() {
    const { clientWidth: w, clientHeight: h } = this.canvas, ratio = window.devicePixelRatio || 1;
    if (!w || !h) return;
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    this.overview = null;
    if (!this.touched) this.start(); else this.draw();
  }

  get room() { return Math.max(1, this.canvas.clientWidth - this.strip); }

  get least() {
    const tall = this.canvas.clientHeight / (this.drawing.height + 40);
    return Math.min(0.5, 0.9 * Math.min(tall, this.room / (this.drawing.width + 40)));
  }

  /* The first look: the top of the graph, readable. */
  start() {
    const first = this.drawing.items[0];
    this.scale = Math.min(1, Math.max(0.85, this.room / (this.drawing.width + 40)));
    const whole = this.drawing.width * this.scale + 40 < this.room;
    const middle = whole || !first ? this.drawing.width / 2 : first.x;
    this.x = this.room / 2 - middle * this.scale;
    this.y = 24;
    this.draw();
  }

  /* All of it, as far as that goes. */
  fit() {
    this.touched = true;
    const tall = this.canvas.clientHeight / (this.drawing.height + 40);
    this.scale = Math.min(1, tall, this.room / (this.drawing.width + 40));
    this.x = (this.room - this.drawing.width * this.scale) / 2;
    this.y = Math.max(20, (this.canvas.clientHeight - this.drawing.height * this.scale) / 2);
    this.draw();
  }

  zoom(factor, cx = this.room / 2, cy = this.canvas.clientHeight / 2) {
    this.touched = true;
    const scale = Math.min(3, Math.max(this.least, this.scale * factor));
    this.x = cx - (cx - this.x) * scale / this.scale;
    this.y = cy - (cy - this.y) * scale / this.scale;
    this.scale = scale;
    this.draw();
  }

  pan(dx, dy) {
    this.touched = true;
    const { width, height } = this.drawing, edge = 60;
    const keep = (at, size, view) => Math.min(view - edge, Math.max(edge - size * this.scale, at));
    this.x = keep(this.x + dx, width, this.room);
    this.y = keep(this.y + dy, height, this.canvas.clientHeight);
    this.draw();
  }

  center(item) {
    this.touched = true;
    if (this.scale < 0.6) this.scale = 0.8;
    this.x = this.room / 2 - item.x * this.scale;
    this.y = this.canvas.clientHeight / 2 - item.y * this.scale;
    this.draw();
  }

  shows(item) {
    const x = this.x + item.x * this.scale, y = this.y + item.y * this.scale;
    return this.scale >= 0.4 && x > 30 && x < this.room - 30 && y > 20 && y < this.canvas.clientHeight - 20;
  }

  at(cx, cy) {
    const x = (cx - this.x) / this.scale, y = (cy - this.y) / this.scale;
    let best = null; // the innermost: the last one, boxes come before what they hold
    for (const item of this.drawing.items) {
      if (Math.abs(item.x - x) <= item.w / 2 + 1 && Math.abs(item.y - y) <= item.h / 2 + 1) best = item;
    }
    return best;
  }

  /* ---- input --------------------------------------------------------------------------------- */

  listen() {
    const canvas = this.canvas;
    let held = null;
    canvas.addEventListener("pointerdown", event => {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      held = { x: event.offsetX, y: event.offsetY, moved: false, strip: event.offsetX > this.room };
      if (held.strip) this.jump(event.offsetY);
    });
    canvas.addEventListener("pointermove", event => {
      if (!held) return;
      if (held.strip) return this.jump(event.offsetY);
      const dx = event.offsetX - held.x, dy = event.offsetY - held.y;
      if (!held.moved && Math.hypot(dx, dy) < 4) return;
      held = { ...held, x: event.offsetX, y: event.offsetY, moved: true };
      canvas.classList.add("moving");
      this.pan(dx, dy);
    });
    canvas.addEventListener("pointerup", event => {
      if (held && !held.moved && !held.strip) this.picked(this.at(event.offsetX, event.offsetY));
      held = null;
      canvas.classList.remove("moving");
    });
    canvas.addEventListener("pointercancel", () => { held = null; });
    canvas.addEventListener("wheel", event => {
      // The page scrolls until the graph is clicked or tabbed to: nobody gets stuck in it.
      const zooms = event.ctrlKey || event.metaKey;
      if (!zooms && document.activeElement !== canvas) return;
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 16 : 1;
      if (zooms) this.zoom(Math.exp(-event.deltaY * unit / 300), event.offsetX, event.offsetY);
      else this.pan(-event.deltaX * unit, -event.deltaY * unit);
    }, { passive: false });
  }

  /* To the place in the overview. */
  jump(cy) {
    const part = cy / this.canvas.clientHeight;
    this.pan(0, this.canvas.clientHeight / 2 - part * this.drawing.height * this.scale - this.y);
  }

  /* ---- drawing ------------------------------------------------------------------------------- */

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
  }

  paint() {
    const { canvas, drawing, scale } = this, style = getComputedStyle(canvas);
    const ratio = canvas.width / canvas.clientWidth, pen = canvas.getContext("2d");
    const color = name => style.getPropertyValue("--" + name).trim();
    this.colors = { line: color("edge"), box: color("node"), rim: color("rim"), ink: color("ink"),
                    soft: color("soft"), pick: color("pick"), ground: color("ground"), nest: color("nest") };
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = this.colors.ground;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * this.x, ratio * this.y);
    const sight = { left: -this.x / scale, top: -this.y / scale,
                    right: (this.room - this.x) / scale, bottom: (canvas.clientHeight - this.y) / scale };
    const seen = drawing.items.filter(item =>
      item.x + item.w / 2 >= sight.left && item.x - item.w / 2 <= sight.right &&
      item.y + item.h / 2 >= sight.top && item.y - item.h / 2 <= sight.bottom);
    for (const item of seen) if (item.kind === "box") this.paintBox(pen, item);
    this.paintEdges(pen, sight);
    for (const item of seen) this.paintItem(pen, item);
    this.paintOverview(pen, ratio);
  }

  paintEdges(pen, sight) {
    const chosen = this.selected, near = [];
    pen.lineWidth = Math.max(1.1, 0.6 / this.scale);
    pen.strokeStyle = this.colors.line;
    pen.beginPath();
    for (const edge of this.drawing.edges) {
      const mine = chosen && (this.drawing.items[edge.from] === chosen || this.drawing.items[edge.to] === chosen);
      if (!inSight(edge, sight)) continue;
      if (mine) near.push(edge); else trace(pen, edge);
    }
    pen.stroke();
    if (!near.length) return;
    pen.strokeStyle = this.colors.pick;
    pen.lineWidth = Math.max(2, 1.2 / this.scale);
    pen.beginPath();
    for (const edge of near) trace(pen, edge);
    pen.stroke();
  }

  paintBox(pen, item) {
    pen.fillStyle = this.colors.nest;
    pen.strokeStyle = this.colors.rim;
    pen.lineWidth = 1;
    round(pen, item, 6);
    pen.fill();
    pen.stroke();
    pen.fillStyle = this.colors.soft;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "left";
    for (const [label, x, y] of item.labels) pen.fillText(label, x, y);
  }

  paintItem(pen, item) {
    const { colors, scale } = this, mark = this.look.mark(item);
    pen.globalAlpha = this.found && !this.found.has(item) && item !== this.selected ? 0.35 : 1;
    if (scale < 0.4 && item.kind !== "box") {
      pen.fillStyle = mark;
      pen.fillRect(item.x - item.w / 2, item.y - item.h / 2, item.w, item.h);
    } else if (item.kind !== "box") {
      pen.fillStyle = colors.box;
      pen.strokeStyle = this.found && this.found.has(item) ? colors.pick : colors.rim;
      pen.lineWidth = 1;
      round(pen, item, item.kind === "op" ? 4 : item.h / 2);
      pen.fill();
      pen.stroke();
      if (item.kind === "op") {
        pen.fillStyle = mark;
        pen.beginPath();
        pen.roundRect(item.x - item.w / 2, item.y - item.h / 2, 5, item.h, [4, 0, 0, 4]);
        pen.fill();
      }
    }
    if (scale >= 0.4) this.paintText(pen, item);
    pen.globalAlpha = 1;
    this.paintChoice(pen, item);
  }

  paintText(pen, item) {
    const note = item.kind === "box" ? "" : this.look.note(item), top = item.y - item.h / 2;
    pen.textAlign = "center";
    pen.fillStyle = this.colors.ink;
    pen.font = "600 12px system-ui, sans-serif";
    pen.fillText(cut(pen, item, this.look.title(item), item.w - 16), item.x + 2, note ? top + 15 : item.kind === "box" ? top + 16 : item.y + 4);
    if (!note) return;
    pen.fillStyle = this.colors.soft;
    pen.font = "10.5px system-ui, sans-serif";
    pen.fillText(cut(pen, item, note, item.w - 14), item.x + 2, top + 29);
  }

  paintChoice(pen, item) {
    const linked = this.linked.has(item);
    if (item !== this.selected && !linked) return;
    pen.strokeStyle = this.colors.pick;
    pen.lineWidth = Math.max(2.5, 2 / this.scale);
    pen.setLineDash(linked && item !== this.selected ? [5, 3] : []);
    const radius = item.kind === "input" || item.kind === "output" ? item.h / 2 : 6;
    round(pen, { ...item, w: item.w + 5, h: item.h + 5 }, radius);
    pen.stroke();
    pen.setLineDash([]);
  }

  /* The whole graph in a strip at the right edge, with a frame around what is in sight. */
  paintOverview(pen, ratio) {
    const { canvas, drawing, strip } = this, tall = canvas.clientHeight, left = this.room;
    if (!this.overview) {
      this.overview = document.createElement("canvas");
      this.overview.width = Math.max(1, Math.round(strip * ratio));
      this.overview.height = canvas.height;
      const small = this.overview.getContext("2d");
      small.scale(ratio, ratio);
      const fx = (strip - 8) / Math.max(1, drawing.width), fy = tall / Math.max(1, drawing.height);
      for (const item of drawing.items) {
        if (item.kind === "box") continue;
        small.fillStyle = this.look.mark(item);
        small.fillRect(4 + (item.x - item.w / 2) * fx, (item.y - item.h / 2) * fy,
                       Math.max(1.5, item.w * fx), Math.max(1, Math.min(6, item.h * fy)));
      }
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = this.colors.nest;
    pen.fillRect(left, 0, strip, tall);
    pen.drawImage(this.overview, left, 0, strip, tall);
    const part = y => Math.min(tall, Math.max(0, (y - this.y) / this.scale / Math.max(1, drawing.height) * tall));
    pen.strokeStyle = this.colors.pick;
    pen.lineWidth = 1.5;
    pen.strokeRect(left + 1, part(0) + 1, strip - 2, Math.max(4, part(tall) - part(0) - 2));
    pen.fillStyle = this.colors.pick;
    for (const item of this.found || []) {
      pen.fillRect(left, item.y / Math.max(1, drawing.height) * tall - 1, 4, 2);
    }
  }

  /* Colours changed: of the page, or of the marks. */
  recolor() {
    this.overview = null;
    this.draw();
  }
}

function inSight(edge, sight) {
  if (!edge.bounds) {
    const xs = edge.points.map(p => p[0]), ys = edge.points.map(p => p[1]);
    edge.bounds = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }
  const [left, top, right, bottom] = edge.bounds;
  return right >= sight.left && left <= sight.right && bottom >= sight.top && top <= sight.bottom;
}

function trace(pen, { points, lane }) {
  pen.moveTo(...points[0]);
  for (let i = 1; i < points.length; i++) {
    const [px, py] = points[i - 1], [x, y] = points[i];
    if (!lane) {
      const bend = (y - py) / 2;
      pen.bezierCurveTo(px, py + bend, x, y - bend, x, y);
    } else if (i + 1 < points.length) {
      pen.arcTo(x, y, ...points[i + 1], 5);
    } else {
      pen.lineTo(x, y);
    }
  }
}

function round(pen, item, radius) {
  pen.beginPath();
  pen.roundRect(item.x - item.w / 2, item.y - item.h / 2, item.w, item.h, radius);
}

/* The text, or as much of it as fits; measured once for each item. */
function cut(pen, item, text, width) {
  item.texts = item.texts || new Map();
  if (item.texts.has(text)) return item.texts.get(text);
  let low = 0, high = text.length;
  if (pen.measureText(text).width <= width) low = high;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(text.slice(0, middle) + "…").width <= width) low = middle; else high = middle - 1;
  }
  const shown = low === text.length ? text : text.slice(0, low) + "…";
  item.texts.set(text, shown);
  return shown;
}
