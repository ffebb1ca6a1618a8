// SPDX-License-Identifier: MIT
// What the report should say, once more and as plainly as possible: from the JSON alone, by the definition
// "token j is visible to query n iff j <= n and (drop_at = -1 or n < drop_at)", pair by pair.

const range = (n) => Array.from({length: n}, (_, i) => i);
const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;

export const size = (trace) => ({T: trace.tokens.length, L: trace.drop_at.length, H: trace.drop_at[0].length});

export function visible(trace, layer, lane, j, n) {
  const t = trace.drop_at[layer][lane][j];
  return j <= n && (t === -1 || n < t);
}

/// The (layer, lane) pairs of a choice; -1 = all.
export function places(trace, layer = -1, lane = -1) {
  const {L, H} = size(trace);
  return range(L)
      .filter((l) => layer === -1 || l === layer)
      .flatMap((l) => range(H).filter((h) => lane === -1 || h === lane).map((h) => [l, h]));
}

export const liveRows = (trace, layer, lane, n) =>
    places(trace, layer, lane)
        .reduce((sum, [l, h]) => sum + range(n + 1).filter((j) => visible(trace, l, h, j, n)).length, 0);

export function keptFraction(trace, layer = -1, lane = -1) {
  const {T} = size(trace);
  const pairs = places(trace, layer, lane).length * T * (T + 1) / 2;
  return range(T).reduce((sum, n) => sum + liveRows(trace, layer, lane, n), 0) / pairs;
}

/// null = token j comes after n.
export const heldFraction = (trace, layer, lane, j, n) =>
    (j > n ? null : mean(places(trace, layer, lane).map(([l, h]) => (visible(trace, l, h, j, n) ? 1 : 0))));

/// Mean over the tokens of a unit that n has read; null = none.
export function unitHeld(trace, layer, lane, tokens, n) {
  const read = tokens.filter((j) => j <= n);
  return read.length ? mean(read.map((j) => heldFraction(trace, layer, lane, j, n))) : null;
}

/// Of the queries after j up to n: the share that saw it, over the places given.
export function survival(trace, layer, lane, j, n) {
  if (j > n) return null;
  if (j === n) return 1;
  const queries = range(n + 1).filter((q) => q > j);
  return mean(places(trace, layer, lane).flatMap(([l, h]) => queries.map((q) => (visible(trace, l, h, j, q) ? 1 : 0))));
}

export const droppedAt = (trace, layer, lane, n) => {
  const counts = new Map();
  for (const [l, h] of places(trace, layer, lane))
    trace.drop_at[l][h].forEach((t, j) => {
      if (t === n) counts.set(j, (counts.get(j) ?? 0) + 1);
    });
  return counts;
};

export function strings(trace, layer, lane, units) {
  const {T} = size(trace);
  const horizon = Math.max(1, Math.floor(T / 4));  // what a string is judged by: so many tokens after it
  const found = new Map();
  for (const tokens of units) {
    if (tokens.at(-1) + horizon > T - 1) continue;
    const text = tokens.map((j) => trace.pieces[j]).join('');
    if (!text) continue;  // the rest of a character
    if (!found.has(text)) found.set(text, {text, count: 0, seen: 0, asked: 0, lives: []});
    const one = found.get(text);
    one.count += 1;
    for (const j of tokens)
      for (const [l, h] of places(trace, layer, lane)) {
        for (let q = j + 1; q <= j + horizon; ++q) {
          one.asked += 1;
          if (visible(trace, l, h, j, q)) one.seen += 1;
        }
        const t = trace.drop_at[l][h][j];
        one.lives.push(t === -1 || t - j > horizon ? horizon + 1 : t - j);
      }
  }
  return new Map([...found.values()].map(({text, count, seen, asked, lives}) => {
    const ordered = [...lives].sort((a, b) => a - b);
    return [text, {count, kept: seen / asked, life: ordered[Math.floor((ordered.length - 1) / 2)]}];
  }));
}

export function denseBytes(trace, tokens) {
  const {L, H} = size(trace);
  let pages = 0;
  while (pages * trace.page_rows < tokens) ++pages;
  return L * H * pages * trace.page_rows * trace.kv_row_bytes;
}
