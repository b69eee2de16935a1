/* Places a graph in layers, top to bottom; every step is about linear in operations and edges.

   A row's layer is the longest path to it. Within layers, barycenter sweeps choose the order and
   isotonic regression the positions: as near to the neighbours as the order allows. Edges over a
   few layers bend around what lies between; longer ones run beside the layers in a lane that all
   edges of one producer share. What If, Loop and Scan hold is laid out first and placed in a box. */

const GAP_X = 16, GAP_Y = 30, LANE = 10, SHORT = 4, HEAD = 24, PAD = 12;
const PULL = 0.99; // towards the middle, layer by layer: lopsided blocks in a row do not drift away

/* graph: {inputs, inside: Map(row -> [owner, branch]), ends: {inputs, outputs}, count}
   size(item): [width, height] of an item that is no box.
   Returns {items, edges, width, height}; an item has kind, row, x, y (centre), w, h. */
function layoutGraph(graph, size) {
  const owner = row => graph.inside.has(row) ? graph.inside.get(row)[0] : -1;
  const scopes = new Map([["", []]]);
  const key = row => graph.inside.has(row) ? graph.inside.get(row).join("/") : "";
  for (let row = 0; row < graph.count; row++) {
    if (!scopes.has(key(row))) scopes.set(key(row), []);
    scopes.get(key(row)).push(row);
  }
  const branches = new Map();
  for (const [row, [held, branch]] of graph.inside) {
    if (!branches.has(held)) branches.set(held, new Map());
    branches.get(held).set(branch, key(row));
  }
  const feeds = edgesByScope(graph, owner, key);

  function scope(name) {
    const items = [], at = new Map();
    const add = item => { at.set(item.id, items.length); items.push(item); };
    if (name === "") {
      graph.ends.inputs.forEach((_, k) => add({ kind: "input", row: k, id: -1 - k }));
    }
    for (const row of scopes.get(name)) {
      const item = { kind: branches.has(row) ? "box" : "op", row, id: row };
      if (item.kind === "box") item.parts = [...branches.get(row)].map(([b, k]) => [b, scope(k)]);
      add(item);
    }
    const links = (feeds.get(name) || []).map(([a, b]) => [at.get(a), at.get(b)]);
    if (name === "") {
      graph.ends.outputs.forEach(([, , from], k) => {
        add({ kind: "output", row: k, id: "out" + k });
        if (from !== null && at.has(from)) links.push([at.get(from), items.length - 1]);
      });
    }
    for (const item of items) [item.w, item.h] = item.kind === "box" ? boxSize(item) : size(item);
    return { items, ...place(items, links) };
  }

  function boxSize(item) {
    for (const [branch, part] of item.parts) part.room = Math.max(part.width, 6.5 * branch.length);
    const inner = item.parts.reduce((sum, [, part]) => sum + part.room + PAD, PAD);
    const tall = item.parts.reduce((most, [, part]) => Math.max(most, part.height), 0);
    const [w] = size({ kind: "op", row: item.row });
    return [Math.max(w, inner), tall + HEAD * 2 + PAD];
  }

  const all = { items: [], edges: [] };
  (function flatten(part, dx, dy) {
    const first = all.items.length;
    for (const item of part.items) {
      all.items.push({ kind: item.kind, row: item.row, x: item.x + dx, y: item.y + dy,
                       w: item.w, h: item.h, labels: [] });
    }
    for (const edge of part.edges) {
      const points = edge.points.map(([x, y]) => [x + dx, y + dy]);
      all.edges.push({ from: first + edge.from, to: first + edge.to, lane: edge.lane, points });
    }
    part.items.forEach((item, index) => {
      if (item.kind !== "box") return;
      let left = item.x - item.w / 2 + PAD;
      const top = item.y - item.h / 2 + HEAD * 2;
      for (const [branch, inner] of item.parts) {
        all.items[first + index].labels.push([branch, left + dx, top - 8 + dy]);
        flatten(inner, left + dx + (inner.room - inner.width) / 2, top + dy);
        left += inner.room + PAD;
      }
    });
    all.width = part.width;
    all.height = part.height;
  })(scope(""), 0, 0);
  return all;
}

/* Edges [from, to] by the scope that holds both ends; the consumer is the box where it is nested. */
function edgesByScope(graph, owner, key) {
  const found = new Map(), seen = new Set();
  for (let row = 0; row < graph.count; row++) {
    for (const feed of graph.inputs[row]) {
      const home = feed < 0 ? -1 : owner(feed), scope = feed < 0 ? "" : key(feed);
      let to = row;
      while (owner(to) !== home && owner(to) >= 0) to = owner(to);
      if (owner(to) !== home || (feed >= 0 && feed >= to)) continue;
      const name = feed + ">" + to;
      if (seen.has(name)) continue;
      seen.add(name);
      if (!found.has(scope)) found.set(scope, []);
      found.get(scope).push([feed, to]);
    }
  }
  return found;
}

/* Gives every item x and y (its centre), and returns the edges with their bends. */
function place(items, links) {
  const rank = ranks(items, links);
  const nodes = items.map((item, i) => ({ w: item.w, h: item.h, rank: rank[i], up: [], down: [] }));
  const chains = [], lanes = new Map();
  for (const [a, b] of links) {
    const span = rank[b] - rank[a];
    if (span > SHORT) {
      if (!lanes.has(a)) lanes.set(a, []);
      lanes.get(a).push(b);
      continue;
    }
    const chain = [a];
    for (let r = rank[a] + 1; r < rank[b]; r++) {
      chain.push(nodes.length);
      nodes.push({ w: 2, h: 0, rank: r, up: [], down: [], bend: true });
    }
    chain.push(b);
    for (let i = 1; i < chain.length; i++) {
      nodes[chain[i - 1]].down.push(chain[i]);
      nodes[chain[i]].up.push(chain[i - 1]);
    }
    chains.push(chain);
  }
  const layers = order(nodes);
  align(nodes, layers);
  const tops = [], bottoms = [];
  let y = 0;
  for (const layer of layers) {
    const h = layer.reduce((most, i) => Math.max(most, nodes[i].h), 0);
    tops.push(y);
    bottoms.push(y + h);
    for (const i of layer) nodes[i].y = y + h / 2;
    y += h + GAP_Y;
  }
  const edges = chains.map(chain => shortEdge(nodes, chain, tops, bottoms));
  edges.push(...laneEdges(nodes, layers, lanes, tops, bottoms));
  let left = Infinity, right = -Infinity;
  for (const n of nodes) { left = Math.min(left, n.x - n.w / 2); right = Math.max(right, n.x + n.w / 2); }
  for (const e of edges) for (const [x] of e.points) { left = Math.min(left, x); right = Math.max(right, x); }
  if (!nodes.length) left = right = 0;
  items.forEach((item, i) => { item.x = nodes[i].x - left; item.y = nodes[i].y; });
  for (const e of edges) for (const p of e.points) p[0] -= left;
  return { edges, width: right - left, height: Math.max(0, y - GAP_Y) };
}

/* Longest paths from the graph inputs; what does not depend on them stands as low as it can. */
function ranks(items, links) {
  const rank = new Array(items.length).fill(0), fed = items.map(item => item.kind === "input");
  const ups = items.map(() => []), downs = items.map(() => []);
  for (const [a, b] of links) { ups[b].push(a); downs[a].push(b); }
  items.forEach((_, i) => {
    for (const a of ups[i]) {
      rank[i] = Math.max(rank[i], rank[a] + 1);
      fed[i] = fed[i] || fed[a];
    }
  });
  for (let i = items.length - 1; i >= 0; i--) {
    if (!fed[i] && downs[i].length) rank[i] = Math.min(...downs[i].map(b => rank[b])) - 1;
  }
  return rank;
}

/* Layers of indices: in the order of a depth-first walk, then swept towards fewer crossings. */
function order(nodes) {
  const visit = new Array(nodes.length).fill(-1);
  let count = 0;
  for (let start = 0; start < nodes.length; start++) {
    const stack = [start];
    while (stack.length) {
      const i = stack.pop();
      if (visit[i] >= 0) continue;
      visit[i] = count++;
      for (let k = nodes[i].down.length - 1; k >= 0; k--) stack.push(nodes[i].down[k]);
    }
  }
  const layers = [];
  nodes.forEach((n, i) => { (layers[n.rank] = layers[n.rank] || []).push(i); });
  for (let r = 0; r < layers.length; r++) layers[r] = (layers[r] || []).sort((a, b) => visit[a] - visit[b]);
  const spot = new Float64Array(nodes.length), wish = new Float64Array(nodes.length);
  const number = layer => layer.forEach((i, k) => { spot[i] = k; });
  layers.forEach(number);
  for (let sweep = 0; sweep < 6; sweep++) {
    const side = sweep % 2 ? "down" : "up";
    for (let k = 0; k < layers.length; k++) {
      const layer = layers[sweep % 2 ? layers.length - 1 - k : k];
      if (layer.length < 2) continue;
      for (const i of layer) wish[i] = mean(nodes[i][side], spot, spot[i]);
      layer.sort((a, b) => wish[a] - wish[b] || spot[a] - spot[b]);
      number(layer);
    }
  }
  return layers;
}

function mean(list, values, otherwise) {
  if (!list.length) return otherwise;
  let sum = 0;
  for (const i of list) sum += values[i];
  return sum / list.length;
}

/* Positions across: each layer as near to the neighbours' mean as order and widths allow. */
function align(nodes, layers) {
  const x = new Float64Array(nodes.length), around = nodes.map(n => [...n.up, ...n.down]);
  for (const layer of layers) {
    let at = 0;
    for (const i of layer) { x[i] = at + nodes[i].w / 2; at += nodes[i].w + GAP_X; }
    for (const i of layer) x[i] -= (at - GAP_X) / 2;
  }
  for (let sweep = 0; sweep < 9; sweep++) {
    const near = i => sweep === 8 ? around[i] : sweep % 2 ? nodes[i].down : nodes[i].up;
    for (let k = 0; k < layers.length; k++) {
      const layer = layers[sweep % 2 ? layers.length - 1 - k : k];
      if (layer.length === 1) {
        x[layer[0]] = PULL * mean(near(layer[0]), x, x[layer[0]]);
        continue;
      }
      fit(layer, nodes, layer.map(i => PULL * mean(near(i), x, x[i])), x);
    }
  }
  nodes.forEach((n, i) => { n.x = x[i]; });
}

/* Least squares under x[i + 1] >= x[i] + distance: pool adjacent violators. */
function fit(layer, nodes, wish, x) {
  const offset = [], pools = [];
  layer.forEach((i, k) => {
    offset[k] = k ? offset[k - 1] + (nodes[layer[k - 1]].w + nodes[i].w) / 2 + GAP_X : 0;
    const weight = nodes[i].bend ? 2 : 1;
    let pool = { sum: (wish[k] - offset[k]) * weight, weight, size: 1 };
    while (pools.length) {
      const last = pools[pools.length - 1];
      if (last.sum / last.weight <= pool.sum / pool.weight) break;
      pools.pop();
      pool = { sum: pool.sum + last.sum, weight: pool.weight + last.weight, size: pool.size + last.size };
    }
    pools.push(pool);
  });
  let k = 0;
  for (const pool of pools) {
    for (let n = 0; n < pool.size; n++, k++) x[layer[k]] = pool.sum / pool.weight + offset[k];
  }
}

function shortEdge(nodes, chain, tops, bottoms) {
  const from = chain[0], to = chain[chain.length - 1];
  const points = [[nodes[from].x, nodes[from].y + nodes[from].h / 2]];
  for (const i of chain.slice(1, -1)) {
    points.push([nodes[i].x, tops[nodes[i].rank]], [nodes[i].x, bottoms[nodes[i].rank]]);
  }
  points.push([nodes[to].x, nodes[to].y - nodes[to].h / 2]);
  return { from, to, points, lane: false };
}

/* Long edges: from the producer to a lane beside the layers, the nearer side, and back. */
function laneEdges(nodes, layers, lanes, tops, bottoms) {
  const left = layers.map(layer => layer.reduce((m, i) => Math.min(m, nodes[i].x - nodes[i].w / 2), Infinity));
  const right = layers.map(layer => layer.reduce((m, i) => Math.max(m, nodes[i].x + nodes[i].w / 2), -Infinity));
  const last = ([a, ends]) => Math.max(...ends.map(b => nodes[b].rank));
  const nets = [...lanes].sort((p, q) => last(p) - nodes[p[0]].rank - last(q) + nodes[q[0]].rank || p[0] - q[0]);
  const edges = [];
  nets.forEach(([a, ends], number) => {
    const begin = nodes[a].rank + 1, end = last([a, ends]) - 1;
    let low = Infinity, high = -Infinity;
    for (let r = begin; r <= end; r++) { low = Math.min(low, left[r]); high = Math.max(high, right[r]); }
    const far = x => ends.reduce((sum, b) => sum + Math.abs(x - nodes[b].x), Math.abs(x - nodes[a].x));
    const side = far(high) <= far(low) ? 1 : -1;
    const x = side > 0 ? high + LANE : low - LANE;
    for (let r = begin; r <= end; r++) { if (side > 0) right[r] = x; else left[r] = x; }
    const shift = (number % 4) * 3, port = n => n.x + side * Math.min(n.w / 4, 14);
    for (const b of ends) {
      const leave = bottoms[nodes[a].rank] + 7 + shift, enter = tops[nodes[b].rank] - 7 - shift;
      edges.push({ from: a, to: b, lane: true, points: [
        [port(nodes[a]), nodes[a].y + nodes[a].h / 2], [port(nodes[a]), leave], [x, leave],
        [x, enter], [port(nodes[b]), enter], [port(nodes[b]), nodes[b].y - nodes[b].h / 2]] });
    }
  });
  return edges;
}
