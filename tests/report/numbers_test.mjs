// SPDX-License-Identifier: MIT
// Every number the report shows, against the plain recomputation from the JSON.
import assert from 'node:assert/strict';
import {execFileSync, spawnSync} from 'node:child_process';
import {readFileSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

import {finish, folder, near, settle, test} from './harness.mjs';
import {report} from './inline.mjs';
import * as plain from './recompute.mjs';
import {random, trace} from './traces.mjs';

const unitsOf = (starts) =>
    starts.slice(0, -1).map((begin, u) => Array.from({length: starts[u + 1] - begin}, (_, i) => begin + i));

/// Everything window.pith says of one trace, and what stands in the page.
async function compareNumbers(page, json, seed) {
  const next = random(seed);
  const {T, L, H} = plain.size(json);
  const some = (n) => Math.floor(next() * n);
  const moments = [...new Set([0, T - 1, ...Array.from({length: 4}, () => some(T))])];
  const scopes = [[-1, -1], [some(L), -1], [-1, H > 1 ? some(H) : -1], [some(L), some(H)]];

  for (const [layer, lane] of scopes) {
    await page.run((l, h) => pith.set({layer: l, lane: h, granularity: 'token', view: 'a'}), layer, lane);
    const live = await page.run((l, h) => pith.live(l, h), layer, lane);
    for (let n = 0; n < T; ++n)
      assert.equal(live[n], plain.liveRows(json, layer, lane, n), `live rows of layer ${layer}, lane ${lane} at ${n}`);
    near(
        await page.run((l, h) => pith.kept(l, h), layer, lane), plain.keptFraction(json, layer, lane), 'kept fraction');
    for (const n of moments) {
      const held = await page.run((at) => {
        pith.setTime(at);
        return pith.held();
      }, n);
      for (let j = 0; j < T; ++j)
        near(held[j], plain.heldFraction(json, layer, lane, j, n), `share that holds ${j} at ${n}`);
      const gone = new Map((await page.run((at) => pith.letGo(at), n)).map(({position, rows}) => [position, rows]));
      assert.deepEqual(
          [...gone].sort(([a], [b]) => a - b), [...plain.droppedAt(json, layer, lane, n)].sort(([a], [b]) => a - b),
          `let go at ${n}`);
    }
  }

  for (let l = 0; l < L; ++l)
    for (const n of moments) {
      const sees = new Map(await page.run((layer, at) => pith.sees(layer, at), l, n));
      for (let j = 0; j < T; ++j)
        near(sees.get(j) ?? 0, plain.heldFraction(json, l, -1, j, n) ?? 0, `query ${n} sees ${j} in layer ${l}`);
    }
  for (let i = 0; i < 40; ++i) {
    const [l, h, j] = [some(L), some(H), some(T)];
    const t = json.drop_at[l][h][j];
    assert.deepEqual(
        await page.run((...at) => pith.fate(...at), l, h, j),
        {until: t, life: t === -1 ? -1 : t - j, score: json.gate_score?.[l][h][j] ?? null});
  }
  for (const n of moments) {
    const pass = json.passes.find(({first, next: end}) => first <= n && n < end);
    assert.deepEqual(await page.run((at) => pith.pass(at), n), {...pass, dense: plain.denseBytes(json, pass.next)});
  }

  for (const granularity of ['token', 'word', 'sentence']) {
    const layer = granularity === 'word' ? some(L) : -1;
    await page.run((g, l) => pith.set({granularity: g, layer: l, lane: -1}), granularity, layer);
    const starts = await page.run(() => pith.starts());
    const units = unitsOf(starts);
    assert.deepEqual(units.flat(), Array.from({length: T}, (_, j) => j), 'units cover the text, in order');
    if (granularity === 'token') assert.equal(units.length, T);
    for (const n of moments) {
      const shown = await page.run((at) => pith.shown(at), n);
      for (const tokens of units)
        for (const j of tokens)
          near(shown[j], plain.unitHeld(json, layer, -1, tokens, n), `${granularity} of ${j} at ${n}`);
    }
    // The shade in the page is that number.
    const n = moments.at(-1);
    await page.run((at) => pith.setTime(at), n);
    await page.idle();
    for (let i = 0; i < 12; ++i) {
      const j = some(T);
      const unit = units.find((tokens) => tokens.includes(j));
      const value = plain.unitHeld(json, layer, -1, unit, n);
      const classes = (await page.run((at) => pith.classOf(at), j)).split(' ');
      if (j > n)
        assert.ok(classes.includes('later'), `${j} is not read at ${n}`);
      else {
        const level = value === 0 ? 0 : value === 1 ? 16 : Math.max(1, Math.min(15, Math.round(value * 16)));
        assert.ok(classes.includes(`s${level}`), `${j} at ${n}: ${classes} for ${value}`);
        const line = await page.run((id) => getComputedStyle(document.getElementById(id)).textDecorationLine, `t${j}`);
        assert.equal(line.includes('line-through'), value === 0, 'struck through iff dropped by all');
        const now = plain.places(json, layer, -1).some(([l, h]) => json.drop_at[l][h][j] === n);
        assert.equal(classes.includes('gone-now'), now, `${j} let go at ${n}`);
      }
    }
    const tables = await page.run(() => {
      document.querySelector('#occurs').value = '1';
      return pith.tables();
    });
    const expected = plain.strings(json, layer, -1, units);
    for (const list of Object.values(tables))
      for (const {text, count, kept, life} of list) {
        const want = expected.get(text);
        assert.equal(count, want.count, `times of ${JSON.stringify(text)}`);
        near(kept, want.kept, `kept of ${JSON.stringify(text)}`);
        assert.equal(life, want.life, `life of ${JSON.stringify(text)}`);
      }
    const order = [...expected.values()].map(({kept}) => kept).sort((a, b) => b - a);
    tables.mostKept.forEach(({kept}, i) => near(kept, order[i], 'most kept first'));
    const forgotten = order.filter((kept) => kept < 1).reverse();
    tables.firstForgotten.forEach(({kept}, i) => near(kept, forgotten[i], 'first forgotten first'));
  }

  // The maps as drawn.
  await page.run(() => {
    pith.set({granularity: 'token', layer: -1, lane: -1});
    document.querySelector('#heat').scrollIntoView({block: 'center'});
  });
  for (const measure of ['survival', 'held']) {
    const n = moments.at(-1);
    await page.run((m, at) => pith.set({measure: m, time: at}), measure, n);
    await settle(page);
    const {edges, values} = await page.run(() => pith.heat.drawn());
    const columns = edges.length - 1;
    for (let i = 0; i < 60; ++i) {
      const [l, c] = [some(L), some(columns)];
      const read = unitsOf([edges[c], edges[c + 1]])[0].filter((j) => j <= n);
      const want = read.length ?
          read.reduce(
              (sum, j) => sum +
                  (measure === 'held' ? plain.heldFraction(json, l, -1, j, n) : plain.survival(json, l, -1, j, n)),
              0) /
              read.length :
          null;
      const got = values[l * columns + c];
      if (want === null)
        assert.ok(got === null);
      else
        assert.ok(Math.abs(got - want) < 1e-6, `heat ${l},${c}: ${got}, ${want}`);
    }
  }
  await page.run(() => document.querySelector('#triangle').scrollIntoView({block: 'center'}));
  const layer = some(L);
  await page.run((l) => pith.set({layer: l}), layer);
  await settle(page);
  const map = await page.run(() => pith.triangle.drawn());
  for (let i = 0; i < 60; ++i) {
    const [c, r] = [some(map.W), some(map.H)];
    const n = map.queries[r];
    const tokens = Array.from({length: T}, (_, j) => j).filter((j) => Math.floor((j * map.W) / T) === c && j <= n);
    const want = tokens.length ?
        tokens.reduce((sum, j) => sum + plain.heldFraction(json, layer, -1, j, n), 0) / tokens.length :
        null;
    const got = map.values[r * map.W + c];
    if (want === null)
      assert.ok(got === null);
    else
      assert.ok(Math.abs(got - want) < 1e-5, `triangle ${c},${r}: ${got}, ${want}`);
  }
  if (T < 16) return;
  // Zoomed in, the very pixels.
  const [j0, n0] = [some(T - 12), some(T - 12)];
  await page.run((j, n) => {
    pith.triangle.xs.place(j, 10);
    pith.triangle.ys.place(n, 10);
    pith.set({lane: 0, selected: -1, time: n});
  }, j0, n0);
  await settle(page);
  const ramp = await page.run(() => pith.ramp());
  for (let i = 0; i < 30; ++i) {
    const [j, n] = [j0 + some(10), n0 + 1 + some(9)];
    const [r, g, b, a] = await page.run((x, y) => pith.triangle.pixel(x, y), j, n);
    const colour = ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;
    if (j > n)
      assert.equal(a, 0, `pixel ${j},${n} is empty`);
    else
      assert.equal(
          colour,
          j === n                                 ? ramp.current :
              plain.visible(json, layer, 0, j, n) ? ramp.held :
                                                    ramp.dropped,
          `pixel ${j},${n}`);
  }
}

/// "12 %", "<0.1 %" and the like, of a share.
function isPercent(text, share, what) {
  const said = Number(text.match(/[\d.]+/)?.[0]), exact = 100 * share;
  const right = text.startsWith('<') ? exact > 0 && exact < said :
      text.startsWith('>')           ? exact < 100 && exact > said :
                                       Math.abs(said - exact) <= (text.includes('.') ? 0.0500001 : 0.5000001);
  assert.ok(right, `${what}: ${text} for ${exact} %`);
}

function isBytes(text, exact, what) {
  const [, said, unit] = text.match(/([\d.e+]+) (B|kB|MB|GB)/);
  const got = said * {B: 1, kB: 1e3, MB: 1e6, GB: 1e9}[unit];
  assert.ok(Math.abs(got - exact) <= 0.006 * exact, `${what}: ${text} for ${exact}`);
}

const count = (text) => Number(text.replaceAll(',', ''));

/// What stands in words and figures around the pictures.
async function compareWords(page, json, seed) {
  const next = random(seed);
  const {T, L, H} = plain.size(json);
  const some = (n) => Math.floor(next() * n);
  const texts = (selector) =>
      page.run((s) => [...document.querySelectorAll(s)].map((found) => found.textContent), selector);
  const passAt = (n) => json.passes.find(({first, next: end}) => first <= n && n < end);

  const facts = await texts('#summary dd');
  isPercent(facts[3], plain.keptFraction(json), 'context kept');
  const end = passAt(T - 1), [used, dense] = facts[4].split(' of ');
  isBytes(used, end.kv_bytes, 'cache at the end');
  isBytes(dense, plain.denseBytes(json, end.next), 'dense cache at the end');

  for (const selector of ['#triangle', '#curves', '#strings', '#text']) {
    await page.run((s) => document.querySelector(s).scrollIntoView({block: 'center'}), selector);
    await settle(page);
  }
  (await texts('#thumbs span')).forEach((caption, l) => {
    const [name, kept] = caption.split(' · ');
    assert.equal(Number(name), l);
    isPercent(kept, plain.keptFraction(json, l), `kept of layer ${l}`);
  });

  // Without a choice, the triangle of the layer that is nearest to keeping half.
  const half = Array.from({length: L}, (_, l) => Math.abs(plain.keptFraction(json, l) - 0.5));
  await page.run(() => pith.set({layer: -1, lane: -1}));
  near(half[await page.run(() => pith.triangle.layer())], Math.min(...half), 'the layer of the triangle');

  for (const layer of [-1, some(L)]) {
    const n = some(T);
    await page.run((l, at) => {
      pith.set({layer: l, lane: -1, granularity: 'token', selected: -1, time: at});
      document.querySelector('#curves').scrollIntoView({block: 'center'});
    }, layer, n);
    await settle(page);
    const live = plain.liveRows(json, layer, -1, n) / plain.places(json, layer).length;
    const now = (await texts('#now'))[0];
    const [, at, of] = now.match(/^Token ([\d,]+) of ([\d,]+) /);
    assert.deepEqual([count(at), count(of)], [n, T]);
    isPercent(now.match(/sees (\S+ %) of its context/)[1], live / (n + 1), 'sees of its context');
    const dropped = [...plain.droppedAt(json, layer, -1, n).values()];
    assert.equal(now.endsWith('Nothing let go here.'), !dropped.length);
    if (dropped.length > 6)
      assert.ok(
          now.replaceAll(',', '').endsWith(
              ` and ${dropped.length - 6} more (${dropped.reduce((sum, rows) => sum + rows)} rows).`),
          now);
    const [, denseRows, kept] = (await texts('#rows-key'))[0].match(/dense ([\d,]+)kept ([\d,]+)/);
    assert.equal(count(denseRows), n + 1);
    assert.ok(Math.abs(count(kept) - live) <= 0.5, `rows of a query: ${kept} for ${live}`);
    const [, denseBytes, bytes] = (await texts('#bytes-key'))[0].match(/dense (.*B)pages in use (.*B)/);
    isBytes(denseBytes, plain.denseBytes(json, passAt(n).next), 'dense bytes');
    isBytes(bytes, passAt(n).kv_bytes, 'bytes');
    const curves = await page.run(() => pith.curves());
    const curve = (of, name) => of.find((one) => one.name === name).points;
    assert.deepEqual(curve(curves.rows, 'dense').map(([, rows]) => rows), Array.from({length: T}, (_, i) => i + 1));
    assert.equal(curve(curves.rows, 'kept').length, T);
    curve(curves.rows, 'kept')
        .forEach(
            ([i, rows]) => near(
                rows, plain.liveRows(json, layer, -1, i) / plain.places(json, layer).length, `curve of rows at ${i}`));
    assert.deepEqual(
        curve(curves.bytes, 'pages in use'), json.passes.map(({next: after, kv_bytes: held}) => [after - 1, held]));
    for (const [i, held] of curve(curves.bytes, 'dense')) near(held, plain.denseBytes(json, i + 1), `dense at ${i}`);
  }

  // The card of one token: what it saw, when it went, by whom, at what score.
  for (let i = 0; i < 4; ++i) {
    const q = some(T);
    await page.run((j) => {
      pith.set({layer: -1});
      pith.select(j);
      document.querySelector('#card').scrollIntoView({block: 'center'});
    }, q);
    await settle(page);
    const rows = await page.run(
        () => [...document.querySelectorAll('#card tbody tr')].map(
            (row) => [...row.children].map((cell) => cell.textContent)));
    assert.equal(rows.length, L);
    rows.forEach(([name, saw, , after, by, score], l) => {
      const told = `layer ${l} of token ${q}: ${[saw, after, by, score]}`;
      assert.equal(Number(name), l);
      assert.ok(Math.abs(count(saw) - plain.liveRows(json, l, -1, q) / H) <= 0.0500001, told);
      const ends = json.drop_at[l].map((lane) => lane[q]).filter((t) => t !== -1).sort((a, b) => a - b);
      if (!ends.length) return assert.deepEqual([after, by, score], ['kept', '', ''], told);
      assert.equal(count(after.slice(1)), ends[0] - q, told);
      const scores =
          json.drop_at[l].map((lane, h) => json.gate_score?.[l][h][q] ?? null).filter((value) => value !== null);
      const verb = scores.length ? 'by' : 'from';
      const part = ends.length < H ? `${ends.length}/${H} ` : '';
      if (ends[0] !== ends.at(-1))
        assert.equal(by.replaceAll(',', ''), `${part}${verb} tokens ${ends[0]}–${ends.at(-1)}`, told);
      else if (ends[0] >= T)
        assert.equal(by, `${part}after the end`, told);
      else
        assert.ok(by.startsWith(`${part}${verb} `) && by.endsWith(scores.length ? '' : ' on'), told);
      if (!scores.length) return assert.equal(score, '', told);
      const said = Number(score.replace('…', '').replaceAll('−', '-'));
      assert.ok(Math.abs(said - Math.min(...scores)) <= 0.0050001, told);
      assert.equal(score.endsWith('…'), scores.some((value) => Math.abs(value - said) > 0.006), told);
    });
  }

  // The tables as they stand there.
  const tables = await page.run(() => {
    document.querySelector('#occurs').value = '1';
    document.querySelector('#occurs').dispatchEvent(new Event('change'));
    document.querySelector('#strings').scrollIntoView({block: 'center'});
    return pith.tables();
  });
  await settle(page);
  const horizon = Math.max(1, Math.floor(T / 4));
  for (const [id, list] of [['most-kept', tables.mostKept], ['first-forgotten', tables.firstForgotten]]) {
    const rows = await page.run(
        (i) => [...document.querySelectorAll(`#${i} tbody tr`)].map(
            (row) => [...row.children].map((cell) => cell.textContent)),
        id);
    assert.equal(rows.length, list.length);
    rows.forEach(([, times, share, life], i) => {
      assert.equal(count(times), list[i].count);
      isPercent(share, list[i].kept, 'kept of a string');
      assert.equal(life.replaceAll(',', ''), list[i].life > horizon ? `>${horizon}` : String(list[i].life));
    });
  }
}

async function compareAll(page, json, seed) {
  await compareWords(page, json, seed);
  await compareNumbers(page, json, seed);
}

await test('numbers: a gated model', async (open) => {
  const json = trace({tokens: 150, layers: 5, seed: 11});
  await compareAll(await open(json), json, 1);
});
await test('numbers: lanes per head, a cache policy', async (open) => {
  const json = trace({tokens: 120, layers: 3, lanes: 4, seed: 12, kind: 'cache', chunk: 16, pageRows: 8});
  await compareAll(await open(json), json, 2);
});
await test('numbers: nasty text, gate scores per head', async (open) => {
  const json = trace({tokens: 140, layers: 4, lanes: 2, seed: 13, text: 'nasty'});
  await compareAll(await open(json), json, 3);
});
await test('numbers: dense', async (open) => {
  const json = trace({tokens: 90, layers: 2, seed: 14, kind: 'dense'});
  const page = await open(json);
  await compareAll(page, json, 4);
  assert.equal(await page.run(() => pith.kept()), 1);
});
await test('numbers: one token, one layer', async (open) => {
  const json = trace({tokens: 1, layers: 1, seed: 15, prompt: 1});
  await compareAll(await open(json), json, 5);
});
await test('numbers: drops at the first and after the last token', async (open) => {
  const json = trace({tokens: 40, layers: 2, seed: 16, kind: 'cache', chunk: 8});
  json.drop_at[0][0] = json.drop_at[0][0].map((_, j) => (j % 2 ? j + 1 : 40));
  json.drop_at[1][0] = json.drop_at[1][0].map((_, j) => (j % 3 ? -1 : j));
  await compareAll(await open(json), json, 6);
});
for (let seed = 100; seed < 104; ++seed)
  await test(`numbers: random trace ${seed}`, async (open) => {
    const next = random(seed);
    const json = trace({
      tokens: 2 + Math.floor(next() * 130),
      layers: 1 + Math.floor(next() * 7),
      lanes: 1 + Math.floor(next() * 3),
      seed,
      kind: ['gate', 'cache', 'dense'][Math.floor(next() * 2.2)],
      text: next() < 0.5 ? 'nasty' : 'prose',
      chunk: 1 + Math.floor(next() * 40),
    });
    await compareAll(await open(json), json, seed);
  });

// Traces of the shipped model, as the tool writes them.
const home = join(dirname(fileURLToPath(import.meta.url)), '../..');
const model = join(home, 'examples/models/bookworm-1m');
const tool = process.env.PITH_TOOL;
if (!tool) console.error('SKIPPED: traces of the shipped model (PITH_TOOL names no pith command)');

const STRANGE = Buffer.concat([
  Buffer.from(
      'He said: "</script><!-- {{trace}}" \'$&\' \\ and left.\r\n\tשלום עולם, مرحبا 👨‍👩‍👧‍👦 🇨🇭 日本語。\u0000\u202e '),
  Buffer.from([0xff, 0xc3, 0x28, 0xe2, 0x82, 0xf0, 0x9f, 0x98]),
  Buffer.from(' The old house stood at the end of the lane, and nobody knew whose it was. The garden had no gate.')
]);

/// The trace that `pith trace` writes with these arguments, and the report.
function traced(...args) {
  const file = join(folder, 'tool.html'), text = join(folder, 'strange.txt');
  writeFileSync(text, STRANGE);
  const out = execFileSync(
      tool, ['trace', '-q', '-m', model, '-f', text, '-s', '7', '--json', '--html', file, ...args],
      {maxBuffer: 1 << 28, encoding: 'utf8'});
  return {json: JSON.parse(out), html: readFileSync(file, 'utf8')};
}

/// The page with its two traces taken out, and these.
function apart(html) {
  const traces = [];
  const page = html.replace(
      /(<script id="(?:trace|compare)" type="application\/json">)([^<]*)(<\/script>)/g, (_, a, json, b) => {
        traces.push(JSON.parse(json));
        return a + b;
      });
  return {page, traces};
}

if (tool) {
  const all = [];
  const policies = [
    'gate', 'none', 'streaming(sinks=4,recent=24)', 'h2o(rows=32,recent=8)', 'snapkv(rows=32,window=8)',
    'gate,h2o(rows=24,recent=8)'
  ];
  for (const policy of policies)
    await test(`numbers: the shipped model, ${policy}`, async (open) => {
      const {json, html} = traced('--policy', policy, '-n', '30', '-b', '16');
      all.push(json);
      const {page: around, traces} = apart(html);
      assert.deepEqual(traces, [json, null], 'the report holds the trace');
      assert.equal(around, apart(report(json)).page, 'and the page that is tested here');
      assert.ok(json.pieces.some((piece) => piece.includes('\ufffd')), 'invalid bytes are in the text');
      near(json.kept, plain.keptFraction(json), 'kept');
      json.kept_per_layer.forEach((kept, l) => near(kept, plain.keptFraction(json, l), `kept of layer ${l}`));
      const page = await open(json);
      await compareAll(page, json, 7);
    });
  await test('numbers: the shipped model, with a second trace', async () => {
    const other = join(folder, 'dense.json');
    const dense = traced('--policy', 'none', '-n', '5').json;
    writeFileSync(other, JSON.stringify(dense));
    const {json, html} = traced('-n', '5', '--compare', other);
    assert.deepEqual(apart(html).traces, [json, dense]);
  });
  await test('numbers: the tool\'s traces obey the schema', async () => {
    if (!all.length) return;
    const check = join(home, 'tests/report/schema_test.py');
    const checked =
        spawnSync('python3', [check], {input: all.map((json) => JSON.stringify(json)).join('\n'), encoding: 'utf8'});
    if (checked.error || checked.stderr.startsWith('SKIPPED'))
      return console.error(checked.error ? 'SKIPPED: the schema (no python3)' : checked.stderr.trim());
    assert.equal(checked.status, 0, checked.stderr);
    for (const spoil
             of [(json) => json.drop_at[0][0][0] = -2, (json) => delete json.tokens, (json) => json.kept = 1.5]) {
      const wrong = structuredClone(all[0]);
      spoil(wrong);
      assert.throws(
          () => execFileSync('python3', [check], {input: JSON.stringify(wrong), stdio: ['pipe', 'ignore', 'ignore']}));
    }
  });
}

await finish();
