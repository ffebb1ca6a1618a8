// SPDX-License-Identifier: MIT
// Every number the report shows, against the plain recomputation from the JSON.
import assert from 'node:assert/strict';

import {finish, near, settle, test} from './harness.mjs';
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

await test('numbers: a gated model', async (open) => {
  const json = trace({tokens: 150, layers: 5, seed: 11});
  await compareNumbers(await open(json), json, 1);
});
await test('numbers: lanes per head, a cache policy', async (open) => {
  const json = trace({tokens: 120, layers: 3, lanes: 4, seed: 12, kind: 'cache', chunk: 16, pageRows: 8});
  await compareNumbers(await open(json), json, 2);
});
await test('numbers: nasty text, gate scores per head', async (open) => {
  const json = trace({tokens: 140, layers: 4, lanes: 2, seed: 13, text: 'nasty'});
  await compareNumbers(await open(json), json, 3);
});
await test('numbers: dense', async (open) => {
  const json = trace({tokens: 90, layers: 2, seed: 14, kind: 'dense'});
  const page = await open(json);
  await compareNumbers(page, json, 4);
  assert.equal(await page.run(() => pith.kept()), 1);
});
await test('numbers: one token, one layer', async (open) => {
  const json = trace({tokens: 1, layers: 1, seed: 15, prompt: 1});
  await compareNumbers(await open(json), json, 5);
});
await test('numbers: drops at the first and after the last token', async (open) => {
  const json = trace({tokens: 40, layers: 2, seed: 16, kind: 'cache', chunk: 8});
  json.drop_at[0][0] = json.drop_at[0][0].map((_, j) => (j % 2 ? j + 1 : 40));
  json.drop_at[1][0] = json.drop_at[1][0].map((_, j) => (j % 3 ? -1 : j));
  await compareNumbers(await open(json), json, 6);
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
    await compareNumbers(await open(json), json, seed);
  });

await finish();
