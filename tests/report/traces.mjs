// SPDX-License-Identifier: MIT
// Random traces: plausible ones to look at, nasty ones to break the page with.

/// mulberry32: the same traces on every machine.
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const SUBJECTS =
    'The guide|A shepherd|Maria|The old bridge|The glacier|Our train|The second valley|A letter from Chur|Winter'.split(
        '|');
const VERBS = 'remembers|crosses|does not see|waits for|was built before|leads to|belongs to|outlived'.split('|');
const OBJECTS =
    'the lake of 1743|a narrow pass|the lower village|twelve wooden houses|the road to Andermatt|its own shadow|'
        .concat('everything that came later|the first snow')
        .split('|');
const TAILS =
    '| in the early morning| and nobody asks why|, or so they say| until the end of October| - twice'.split('|');
const ENDS = '....?!'.split('');

/// About `tokens` pieces of prose, cut as a byte-pair tokenizer would.
function prose(tokens, next) {
  const pick = (list) => list[Math.floor(next() * list.length)];
  const pieces = [];
  while (pieces.length < tokens) {
    const sentence = `${pick(SUBJECTS)} ${pick(VERBS)} ${pick(OBJECTS)}${pick(TAILS)}`;
    const lead = pieces.length && !pieces.at(-1).endsWith('\n') ? ' ' : '';
    for (const [part] of (lead + sentence).matchAll(/ ?\p{L}+| ?\d+| ?[^\p{L}\d ]/gu)) {
      if (part.length > 7 && next() < 0.6)
        pieces.push(part.slice(0, 5), part.slice(5));
      else
        pieces.push(part);
    }
    pieces.push(pick(ENDS));
    if (next() < 0.18) pieces.push('\n\n');
  }
  return pieces.slice(0, tokens);
}

const NASTY = [
  '</script>',
  '<script>alert(1)</script>',
  '<!--',
  '-->',
  '<img src=x onerror=alert(1)>',
  '&lt;b&gt;',
  '&amp;',
  '"',
  '\'',
  '`',
  '\\',
  '\\n',
  '{{trace}}',
  '{{compare}}',
  '/*{{js}}*/',
  '/*{{css}}*/',
  '$&',
  '$1',
  '${x}',
  ']]>',
  '\ufffd',
  '\ufffd\ufffd',
  ' \ufffd',
  '\n',
  '\n\n',
  '\r\n',
  '\r',
  '\t',
  '\u0000',
  '\u0001\u0002',
  '\u001b[31m',
  '\u007f',
  '\u0085',
  '\u2028',
  '\u2029',
  '\u200b',
  '\u200d',
  '\ufeff',
  '\u00ad',
  '\u202e',
  '\u2066',
  '\u202c',
  '',
  ' ',
  '   ',
  ' שלום',
  ' עולם',
  ' مر',
  'حبا',
  ' العالم',
  ' 😀',
  '👨‍👩‍👧‍👦',
  '🇨🇭',
  '👍🏽',
  ' 日本',
  '語',
  '。',
  'e\u0301',
  '\u0301',
  ' नमस्ते',
  'ﷺ',
  ' Zürich',
  'W'.repeat(200),
  ' a',
  ' the',
  '.',
  ',',
  '!',
  '?',
  '…',
  '”',
  '_x',
  '__proto__',
  'constructor',
  '0',
  '-1',
  'null',
  'NaN',
  '\ud83d',
];

function nasty(tokens, next) {
  return Array.from(
      {length: tokens}, (_, j) => (j < NASTY.length ? NASTY[j] : NASTY[Math.floor(next() * NASTY.length)]));
}

const round = (x, digits = 4) => Number(x.toPrecision(digits));

/// options: tokens, layers, lanes, seed, kind 'gate' | 'cache' | 'dense', text 'prose' | 'nasty', prompt, chunk, tau.
export function trace(options = {}) {
  const {
    tokens: T = 200,
    layers: L = 6,
    lanes: H = 1,
    seed = 1,
    kind = 'gate',
    text = 'prose',
    chunk = 32,
    tau = 0,
    textSeed = seed
  } = options;
  const next = random(seed);
  const pieces = options.pieces ?? (text === 'nasty' ? nasty : prose)(T, random(textSeed));
  const prompt = Math.min(T, options.prompt ?? Math.ceil(T * 0.6));
  const ids = new Map();
  const tokens = pieces.map((piece) => {
    if (!ids.has(piece)) ids.set(piece, 100 + ids.size);
    return ids.get(piece);
  });

  // A string has a character of its own, a layer a taste; what ends a sentence is kept, as models do.
  const character = new Map();
  const worth = (piece) => {
    if (!character.has(piece))
      character.set(
          piece,
          /[.!?\n]/.test(piece)                          ? 2.2 :
              /^ ?(the|a|of|to|in|and|or)$/i.test(piece) ? -1.6 :
                                                           next() * 2 - 1);
    return character.get(piece);
  };
  const taste = Array.from({length: L}, (_, l) => 1.2 * Math.sin((l + 1) * 1.7) + (l < 2 ? 0.8 : -0.2));
  const dropAt = [], scores = [];
  for (let l = 0; l < L; ++l) {
    dropAt.push([]);
    scores.push([]);
    for (let h = 0; h < H; ++h) {
      const row = new Array(T).fill(-1), score = new Array(T).fill(null);
      for (let j = 0; j < T; ++j) {
        if (kind === 'dense') continue;
        const chance = 1 / (1 + Math.exp(3.2 + 2.2 * (worth(pieces[j]) + taste[l] - tau) + (next() - 0.5)));
        const life = 1 + Math.floor(Math.log(1 - next()) / Math.log(1 - Math.min(0.9, chance)));
        let until = j + life;
        // A cache policy acts at the end of a pass.
        if (kind === 'cache') until = Math.min(T, Math.ceil(until / chunk) * chunk);
        if (until > T || (kind === 'gate' && until === T)) continue;
        row[j] = until;
        if (kind === 'gate') score[j] = round(-(next() ** 2) * 1.5);
      }
      dropAt[l].push(row);
      scores[l].push(score);
    }
  }

  const pageRows = options.pageRows ?? 32, rowBytes = 2 * 64 * 4;
  const passes = [];
  for (let first = 0; first < T;) {
    const last = first < prompt ? Math.min(prompt, first + chunk) : first + 1;
    const pass = {first, next: last, kv_bytes: 0, live_rows: []};
    for (const lanes of dropAt) {
      let rows = 0;
      for (const row of lanes) {
        let live = 0;
        for (let j = 0; j < last; ++j) live += row[j] < 0 || row[j] > last - 1;
        rows += live;
        pass.kv_bytes += Math.ceil(live / pageRows) * pageRows * rowBytes;
      }
      pass.live_rows.push(rows);
    }
    passes.push(pass);
    first = last;
  }
  const fraction = (row) => row.reduce((sum, until, j) => sum + (until < 0 ? T : until) - j, 0) / (T * (T + 1) / 2);
  const keptPerLayer = dropAt.map((lanes) => lanes.reduce((sum, row) => sum + fraction(row), 0) / lanes.length);
  return {
    format: 'pith-trace/1',
    model: {
      name: options.name ?? 'random-words',
      architecture: 'llama',
      n_layers: L,
      n_heads: Math.max(4, H),
      n_kv_heads: Math.max(4, H)
    },
    policy: {gate: 'gate', cache: 'h2o(rows=1024,recent=256)', dense: 'none'}[kind],
    tau: kind === 'gate' ? tau : null,
    kv: 'f32',
    prompt_tokens: prompt,
    tokens,
    pieces,
    drop_at: dropAt,
    gate_score: kind === 'gate' ? scores : null,
    logprob: pieces.map((_, j) => (j ? round(Math.log(next() * 0.9 + 0.01)) : null)),
    entropy: pieces.map((_, j) => (j ? round(next() * 5) : null)),
    passes,
    kv_row_bytes: rowBytes,
    page_rows: pageRows,
    kept: keptPerLayer.reduce((sum, x) => sum + x, 0) / L,
    kept_per_layer: keptPerLayer,
  };
}

// As a program: traces of every kind, one a line.
if (process.argv[1]?.endsWith('traces.mjs'))
  for (const kind of ['gate', 'cache', 'dense'])
    for (const text of ['prose', 'nasty'])
      for (const lanes of [1, 3])
        console.log(JSON.stringify(trace({tokens: 150, layers: 3, lanes, kind, text, seed: lanes})));
