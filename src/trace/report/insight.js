// SPDX-License-Identifier: MIT
// What is computed from a trace for the page: values of units, tables of strings, what one token let go of.

/// Mean of `value(j)` over the tokens of a unit that are read at n; NaN = none is.
function unitMean(starts, u, n, value) {
  const end = Math.min(starts[u + 1], n + 1);
  if (end <= starts[u]) return NaN;
  let sum = 0;
  for (let j = starts[u]; j < end; ++j) sum += value(j);
  return sum / (end - starts[u]);
}

/// Strings are compared by what became of them in as many tokens after each occurrence.
const horizonOf = (trace) => Math.max(1, trace.T >> 2);

/// The strings of the text, most kept first, over all occurrences with `horizon` tokens after them: the share of these
/// tokens that could see the string in some row, and the median number of tokens that one copy in one row lived;
/// horizon + 1 stands for every longer life.
function stringTable(trace, starts, rows) {
  const horizon = horizonOf(trace);
  const strings = new Map();
  for (let u = 0; u + 1 < starts.length; ++u) {
    if (starts[u + 1] - 1 + horizon >= trace.T) break;
    const text = trace.pieces.slice(starts[u], starts[u + 1]).join('');
    if (text === '') continue;  // the rest of a character
    let entry = strings.get(text);
    if (!entry) strings.set(text, entry = {text, count: 0, seen: 0, asked: 0, lives: [], first: starts[u]});
    ++entry.count;
    for (let j = starts[u]; j < starts[u + 1]; ++j) {
      const {seen, asked} = trace.exposure(rows, j, j + horizon);
      entry.seen += seen;
      entry.asked += asked;
      for (const row of rows) entry.lives.push(Math.min(trace.until[row + j] - j, horizon + 1));
    }
  }
  const table = [];
  for (const {text, count, seen, asked, lives, first} of strings.values()) {
    lives.sort((a, b) => a - b);
    table.push({text, count, kept: seen / asked, life: lives[(lives.length - 1) >> 1], first});
  }
  return table.sort((a, b) => b.kept - a.kept || b.count - a.count || a.first - b.first);
}

/// First forgotten first; strings that every later token could see are not forgotten at all.
function firstForgotten(table) {
  return table.filter(({kept}) => kept < 1).sort((a, b) => a.kept - b.kept || b.count - a.count || a.first - b.first);
}

/// What was let go when token n came: [{ position, rows }], most rows first.
function letGo(trace, n, layer = -1, lane = -1) {
  const counts = new Int32Array(trace.T), positions = [];
  for (const at of trace.dropsAt(n)) {
    const row = Math.floor(at / trace.T);
    if (layer >= 0 && Math.floor(row / trace.H) !== layer) continue;
    if (lane >= 0 && row % trace.H !== lane) continue;
    const j = at - row * trace.T;
    if (!counts[j]++) positions.push(j);
  }
  return positions.map((position) => ({position, rows: counts[position]}))
      .sort((a, b) => b.rows - a.rows || b.position - a.position);
}

/// How many tokens two traces share from the beginning.
function commonTokens(a, b) {
  const most = Math.min(a.T, b.T);
  let n = 0;
  while (n < most && a.pieces[n] === b.pieces[n] && a.meta.tokens[n] === b.meta.tokens[n]) ++n;
  return n;
}

/// Mean log-probability of the tokens for which it is known; null = none is.
function meanLogprob(trace) {
  const known = trace.meta.logprob.filter((x) => typeof x === 'number');
  return known.length ? known.reduce((sum, x) => sum + x, 0) / known.length : null;
}

const inThousands = new Intl.NumberFormat('en-US', {maximumFractionDigits: 0});
const number = (x) => inThousands.format(x);
/// "0 %" and "100 %" are said of nothing and everything only.
function percent(x) {
  if (Number.isNaN(x)) return '–';
  if (x > 0 && x < 0.001) return '<0.1 %';
  if (x < 1 && x > 0.999) return '>99.9 %';
  return `${(100 * x).toFixed((x > 0 && x < 0.1) || (x < 1 && x >= 0.995) ? 1 : 0)} %`;
}

function bytes(x) {
  for (const [unit, size] of [['GB', 1e9], ['MB', 1e6], ['kB', 1e3]])
    if (x >= size) return `${(x / size).toPrecision(3)} ${unit}`;
  return `${Math.round(x)} B`;
}

/// What became of tokens [begin, end) in one layer, over the lanes of the scope: how many rows, how many of them were
/// dropped, the first and last token that did not see one, and the scores there.
function story(trace, layer, lane, begin, end) {
  const told = {rows: 0, dropped: 0, first: NEVER, last: -1, life: -1, lowest: Infinity, highest: -Infinity, scored: 0};
  for (const row of trace.rows(layer, lane))
    for (let j = begin; j < end; ++j) {
      const until = trace.until[row + j];
      ++told.rows;
      if (until === NEVER) continue;
      ++told.dropped;
      if (until < told.first) {
        told.first = until;
        told.life = until - j;
      }
      told.last = Math.max(told.last, until);
      const score = trace.score ? trace.score[row + j] : NaN;
      if (Number.isNaN(score)) continue;
      ++told.scored;
      told.lowest = Math.min(told.lowest, score);
      told.highest = Math.max(told.highest, score);
    }
  return told;
}

/// The survival map: values [layer][column] at time n, NaN = not read yet. Column c is the mean over its tokens
/// [edges[c], edges[c + 1]) of the share of lanes holding them now, or of the later tokens that saw them.
function heatGrid(trace, lane, measure, n, edges) {
  const columns = edges.length - 1;
  const grid = new Float32Array(trace.L * columns).fill(NaN);
  for (let l = 0; l < trace.L; ++l) {
    const rows = trace.rows(l, lane);
    for (let c = 0; c < columns; ++c) {
      const end = Math.min(edges[c + 1], n + 1);
      if (end <= edges[c]) continue;
      let sum = 0;
      for (const row of rows)
        for (let j = edges[c]; j < end; ++j) {
          const until = trace.until[row + j];
          if (measure === 'held')
            sum += until > n;
          else if (j === n)
            sum += 1;
          else
            sum += Math.max(0, (until > n ? n + 1 : until) - (j + 1)) / (n - j);
        }
      grid[l * columns + c] = sum / (rows.length * (end - edges[c]));
    }
  }
  return grid;
}

/// The triangular map, W x H cells over tokens [j0, j1) and queries [n0, n1): the share of a cell's rows its query can
/// see, NaN = they come after it. A cell's row stands for one query, its column for all tokens that fall into it.
function triangleGrid(trace, rows, {j0, j1, n0, n1}, W, H) {
  const queries = new Int32Array(H);
  const firstRow = new Int32Array(n1 - n0 + 1).fill(H);  // of the rows whose query is >= n0 + index
  for (let r = H - 1; r >= 0; --r) queries[r] = n0 + Math.floor(((r + 0.5) * (n1 - n0)) / H);
  for (let r = 0, n = n0; r < H; ++r)
    for (; n <= queries[r]; ++n) firstRow[n - n0] = r;
  const rowOf = (n) => (n <= n0 ? 0 : n >= n1 ? H : firstRow[n - n0]);

  // Marks where each token's column begins and ends, then sums downwards.
  const seen = new Float32Array(W * (H + 1));
  const causal = new Float32Array(W * (H + 1));
  for (let j = j0; j < Math.min(j1, n1); ++j) {
    const column = Math.floor(((j - j0) * W) / (j1 - j0));
    const begin = rowOf(j) * W + column;
    ++causal[begin];
    for (const row of rows) {
      const until = trace.until[row + j];
      if (until <= j) continue;
      ++seen[begin];
      --seen[rowOf(until) * W + column];
    }
  }
  const grid = new Float32Array(W * H);
  for (let at = 0; at < grid.length; ++at) {
    if (at >= W) {
      seen[at] += seen[at - W];
      causal[at] += causal[at - W];
    }
    grid[at] = causal[at] ? seen[at] / (causal[at] * rows.length) : NaN;
  }
  return {grid, queries};
}
