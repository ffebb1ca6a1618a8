// SPDX-License-Identifier: MIT
// A trace in typed arrays, and the one rule everything follows from:
// query n sees token j iff j <= n < until[layer][lane][j].

const NEVER = 0x7fffffff;  // until of a token that was not dropped

const fail = (message) => {
  throw new Error(message);
};

class Trace {
  constructor(json) {
    if (!json || json.format !== 'pith-trace/1') fail('this is not a pith-trace/1 file');
    const {drop_at: dropAt, pieces} = json;
    this.meta = json;
    this.pieces = pieces;
    this.T = pieces.length;
    this.L = dropAt.length;
    this.H = dropAt[0]?.length ?? 0;
    this.prompt = json.prompt_tokens;
    if (!this.T || !this.L || !this.H) fail('the trace is empty');
    if (json.tokens.length !== this.T) fail(`the trace has ${json.tokens.length} tokens, but ${this.T} pieces`);
    this.until = new Int32Array(this.L * this.H * this.T).fill(NEVER);                    // [layer][lane][position]
    this.score = json.gate_score ? new Float64Array(this.until.length).fill(NaN) : null;  // NaN: no gate judged it
    dropAt.forEach((lanes, l) => {
      if (lanes.length !== this.H) fail(`layer ${l} has ${lanes.length} lanes, layer 0 has ${this.H}`);
      lanes.forEach((row, h) => {
        if (row.length !== this.T) fail(`drop_at[${l}][${h}] has ${row.length} positions, expected ${this.T}`);
        const scores = json.gate_score?.[l]?.[h];
        const base = (l * this.H + h) * this.T;
        for (let j = 0; j < this.T; ++j) {
          if (row[j] >= 0) this.until[base + j] = row[j];
          if (this.score && typeof scores?.[j] === 'number') this.score[base + j] = scores[j];
        }
      });
    });
    this.memo = new Map();
    // The nested arrays weigh more than all the rest, and are not looked at again.
    this.meta = {...json, drop_at: null, gate_score: null};
  }

  /// The text of tokens [begin, end). A character that several tokens spell is the first one's, and names them all.
  text(begin, end = begin + 1) {
    while (begin > 0 && this.pieces[begin] === '') --begin;
    return this.pieces.slice(begin, end).join('');
  }

  once(key, make) {
    if (!this.memo.has(key)) this.memo.set(key, make());
    return this.memo.get(key);
  }

  /// Where the rows of a scope begin in `until`; layer or lane -1 = all of them.
  rows(layer = -1, lane = -1) {
    return this.once(`rows ${layer} ${lane}`, () => {
      const offsets = [];
      for (let l = 0; l < this.L; ++l)
        for (let h = 0; h < this.H; ++h)
          if ((layer < 0 || layer === l) && (lane < 0 || lane === h)) offsets.push((l * this.H + h) * this.T);
      return Int32Array.from(offsets);
    });
  }

  /// How many of `rows` still hold token j when token n is read; -1 = j is not read yet.
  holders(rows, j, n) {
    if (j > n) return -1;
    let count = 0;
    for (const row of rows) count += this.until[row + j] > n;
    return count;
  }

  /// Fraction of `rows` that still hold token j when token n is read; NaN = not read yet.
  held(rows, j, n) {
    return j > n ? NaN : this.holders(rows, j, n) / rows.length;
  }

  /// Rows visible to each query [T], over the layers and lanes of the scope.
  live(layer = -1, lane = -1) {
    return this.once(`live ${layer} ${lane}`, () => {
      const change = new Int32Array(this.T + 1);
      for (const row of this.rows(layer, lane))
        for (let j = 0; j < this.T; ++j) {
          const end = Math.min(this.until[row + j], this.T);
          if (end > j) {
            ++change[j];
            --change[end];
          }
        }
      for (let n = 1; n < this.T; ++n) change[n] += change[n - 1];
      return change.subarray(0, this.T);
    });
  }

  /// Of all pairs (query, token at or before it), the fraction that is visible.
  kept(layer = -1, lane = -1) {
    return this.once(`kept ${layer} ${lane}`, () => {
      const live = this.live(layer, lane);
      let sum = 0;
      for (let n = 0; n < this.T; ++n) sum += live[n];
      return sum / (this.T * (this.T + 1) / 2) / this.rows(layer, lane).length;
    });
  }

  /// Of the queries after token j up to n, in all `rows`: how many could see it, and how many there were.
  exposure(rows, j, n) {
    let seen = 0;
    for (const row of rows) seen += Math.max(0, Math.min(this.until[row + j], n + 1) - (j + 1));
    return {seen, asked: (n - j) * rows.length};
  }

  /// The share of later queries up to n that could see token j; 1 for the token being read, NaN = not read yet.
  survival(rows, j, n) {
    if (j > n) return NaN;
    const {seen, asked} = this.exposure(rows, j, n);
    return asked ? seen / asked : 1;
  }

  /// What became of token j in one row; by = the first token that could not see it, -1 = it is still there.
  fate(layer, lane, j) {
    const at = (layer * this.H + lane) * this.T + j;
    const dropped = this.until[at] !== NEVER;
    const score = this.score && !Number.isNaN(this.score[at]) ? this.score[at] : null;
    return {until: dropped ? this.until[at] : -1, life: dropped ? this.until[at] - j : -1, score};
  }

  /// The forward pass that read token n, and the bytes a dense cache takes after it.
  pass(n) {
    const passes = this.once('pass of', () => {
      const of = new Int32Array(this.T).fill(-1);
      this.meta.passes.forEach(({first, next}, i) => of.fill(i, first, next));
      return of;
    });
    const pass = this.meta.passes[passes[n]];
    return pass && {...pass, dense: this.denseBytes(pass.next)};
  }

  denseBytes(tokens) {
    const {page_rows: pageRows, kv_row_bytes: rowBytes} = this.meta;
    return this.L * this.H * Math.ceil(tokens / pageRows) * pageRows * rowBytes;
  }

  /// The rows dropped when token n came, as until-indices: n's bucket of a list sorted by `until`.
  dropsAt(n) {
    const {begins, order} = this.once('drops', () => {
      const begins = new Int32Array(this.T + 2);
      const bucket = (at) => Math.min(this.until[at], this.T);
      for (let at = 0; at < this.until.length; ++at)
        if (this.until[at] !== NEVER) ++begins[bucket(at) + 1];
      for (let n = 0; n <= this.T; ++n) begins[n + 1] += begins[n];
      const next = begins.slice();
      const order = new Int32Array(begins[this.T + 1]);
      for (let at = 0; at < this.until.length; ++at)
        if (this.until[at] !== NEVER) order[next[bucket(at)]++] = at;
      return {begins, order};
    });
    return order.subarray(begins[n], begins[n + 1]);
  }
}
