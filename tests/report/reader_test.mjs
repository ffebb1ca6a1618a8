// SPDX-License-Identifier: MIT
// What a reader does with the report: mouse, keys, files; strange texts; wide and narrow, light and dark.
import assert from 'node:assert/strict';
import {writeFileSync} from 'node:fs';
import {join} from 'node:path';

import {browser, finish, folder, near, settle, test} from './harness.mjs';
import {embed, report} from './inline.mjs';
import * as plain from './recompute.mjs';
import {trace} from './traces.mjs';

await test('nasty text is shown, and does nothing', async (open) => {
  const json = trace({tokens: 160, layers: 3, seed: 21, text: 'nasty'});
  json.model.name = '</script><b>x';
  json.policy = '"<img src=x onerror=alert(1)>';
  const page = await open(json, json);
  assert.equal(await page.run(() => document.querySelectorAll('main img, header img, header b > b').length), 0);
  assert.equal(await page.run(() => document.querySelectorAll('#text span').length), 160);
  assert.equal(await page.run(() => document.querySelectorAll('#text span > *').length), 0);
  const shownAs = {
    '</script>': '</script>',
    '{{trace}}': '{{trace}}',
    '/*{{js}}*/': '/*{{js}}*/',
    '$&': '$&',
    '\ufffd': '\ufffd',
    '\n': '↵\n',
    '\r\n': '⟨CR⟩↵\n',
    '\t': '⇥\t',
    '\u0000': '⟨U+0000⟩',
    '\u001b[31m': '⟨U+001B⟩[31m',
    '\ufeff': '⟨U+FEFF⟩',
    '\u202e': '⟨U+202E⟩',
    '\u200d': '⟨U+200D⟩',
    '': '',
    ' שלום': ' שלום',
    '👨‍👩‍👧‍👦': '👨‍👩‍👧‍👦',
  };
  for (const [piece, text] of [...Object.entries(shownAs), ['__proto__', '__proto__']])
    assert.equal(
        await page.run((at) => document.getElementById(`t${at}`).textContent, json.pieces.indexOf(piece)), text);
  assert.ok((await page.run(() => document.querySelector('#summary').textContent)).includes('</script><b>x'));
  // Every token has a place of its own in the page, whatever it is made of.
  const hidden = await page.run(
      () => [...document.querySelectorAll('#text span')]
                .filter((span) => span.getBoundingClientRect().width === 0 && span.textContent !== '\u0301')
                .map((span) => span.id));
  assert.deepEqual(hidden, []);
});

await test('words and sentences', async (open) => {
  const text = [
    'The', ' glac', 'ier', ',',   ' 17', '43',     ' m', '.',       ' "',     'No',  '!"', ' she', ' said',
    '.\n', '\n',    ' ש',  'לום', ' e',  '\u0301', 'é',  ' \ufffd', '\ufffd', ' Dr', '.',  'No',
    ' na', 'ï',   '',     've',  ' 😀', '',   '',       '?'
  ];
  const json = trace({tokens: text.length, layers: 2, seed: 22, pieces: text});
  const page = await open(json);
  const units = async (granularity) => {
    await page.run((g) => pith.set({granularity: g}), granularity);
    const starts = await page.run(() => pith.starts());
    return starts.slice(0, -1).map((begin, u) => text.slice(begin, starts[u + 1]).join(''));
  };
  assert.deepEqual(await units('token'), text);
  assert.deepEqual(await units('word'), [
    'The', ' glacier', ',', ' 1743', ' m', '.', ' "', 'No', '!"', ' she', ' said', '.\n', '\n', ' שלום', ' e\u0301é',
    ' \ufffd\ufffd', ' Dr', '.', 'No', ' naïve', ' 😀', '?'
  ]);
  assert.deepEqual(
      await units('sentence'),
      ['The glacier, 1743 m.', ' "No!"', ' she said.\n\n', ' שלום e\u0301é \ufffd\ufffd Dr.No naïve 😀?']);
  // The rest of a character has a place of its own, and the name of the whole.
  await page.run(() => pith.set({granularity: 'token'}));
  const rest = text.indexOf('') + 4;
  assert.equal(text[rest], '');
  await page.run((j) => pith.select(j), rest);
  await settle(page);
  assert.equal(await page.run(() => document.querySelector('#card h3').textContent), '␣😀');
  assert.ok(await page.run((j) => document.getElementById(`t${j}`).getBoundingClientRect().width > 3, rest));
});

await test('slider, buttons and the animation', async (open) => {
  const json = trace({tokens: 120, layers: 4, seed: 31});
  const page = await open(json);
  const time = () => page.run(() => pith.state.time);
  assert.equal(await time(), 119);
  assert.deepEqual(
      await page.run(() => [...document.querySelectorAll('.transport button:not(#play)')].map((button) => {
        const {width, height} = button.querySelector('path').getBoundingClientRect();
        return [button.textContent, width > 5 && height > 5];
      })),
      Array(4).fill(['', true]), 'drawn, whatever fonts there are');
  await page.run(() => document.querySelector('#time').focus());
  await page.key('Home');
  assert.equal(await time(), 0);
  await page.key('ArrowRight');
  await page.key('ArrowRight');
  assert.equal(await time(), 2);
  await page.clickOn('#forward');
  assert.equal(await time(), 3);
  await page.clickOn('#back');
  await page.clickOn('#back');
  assert.equal(await time(), 1);
  const slider = await page.place('#time');
  await page.click(slider.x + slider.w / 2, slider.y + slider.h / 2);
  assert.ok(Math.abs((await time()) - 60) <= 1, 'the middle of the slider is the middle of the text');
  assert.ok(
      (await page.run(() => document.querySelector('#now').textContent)).startsWith(`Token ${await time()} of 120`));
  await page.clickOn('#start');
  await page.run(() => {
    document.querySelector('#speed').value = '60';
  });
  await page.clickOn('#play');
  await new Promise((done) => setTimeout(done, 700));
  await page.clickOn('#play');
  const stopped = await time();
  assert.ok(stopped > 5 && stopped < 110, `played to ${stopped}`);
  await new Promise((done) => setTimeout(done, 150));
  assert.equal(await time(), stopped);
  assert.deepEqual(
      await page.run(() => [...document.querySelectorAll('#text .reading')].map(({id}) => id)), [`t${stopped}`]);
});

await test('hover and click in the text', async (open) => {
  const json = trace({tokens: 120, layers: 4, seed: 32});
  const page = await open(json);
  const spot = await page.place('#t30');
  await page.hover(spot.x + spot.w / 2, spot.y + spot.h / 2);
  const tip =
      await page.run(() => (document.querySelector('#tip').hidden ? '' : document.querySelector('#tip').textContent));
  assert.ok(tip.includes('token 30'), tip);
  const lines = await page.run(
      () => [...document.querySelectorAll('#tip .layers > div')].map(
          (line) => line.children[2].textContent + '|' + line.children[4].textContent));
  assert.deepEqual(
      lines,
      json.drop_at.map(
          ([row], l) =>
              (row[30] < 0 ? 'kept|' : `+${row[30] - 30}|${json.gate_score[l][0][30].toFixed(2).replace('-', '−')}`)));
  await page.clickOn('#t50');
  const {selected, time} = await page.run(() => pith.state);
  assert.deepEqual([selected, time], [50, 50]);
  const saw = await page.run(
      () => [...document.querySelectorAll('#card tbody tr')].map((line) => Number(line.children[1].textContent)));
  assert.deepEqual(saw, json.drop_at.map((_, l) => plain.liveRows(json, l, -1, 50)));
  // The layer's number in the card shows that layer alone.
  await page.clickOn('#card tbody tr:nth-child(3) button');
  assert.equal(await page.run(() => pith.state.layer), 2);
  const held = await page.run(() => pith.held());
  json.pieces.forEach((_, j) => near(held[j], plain.heldFraction(json, 2, -1, j, 50), `layer 2 holds ${j}`));
});

await test('keyboard alone', async (open) => {
  const json = trace({tokens: 200, layers: 5, seed: 33});
  const page = await open(json);
  await page.run(() => document.querySelector('#text').focus());
  await page.key('Home');
  for (let i = 0; i < 7; ++i) await page.key('ArrowRight');
  await page.key('Enter');
  assert.equal(await page.run(() => pith.state.selected), 7);
  const before = await page.run(() => document.querySelector('#text').getAttribute('aria-activedescendant'));
  await page.key('ArrowDown');
  const after = await page.run(() => document.querySelector('#text').getAttribute('aria-activedescendant'));
  const [top0, top1] =
      await page.run((a, b) => [a, b].map((id) => document.getElementById(id).offsetTop), before, after);
  assert.ok(top1 > top0, 'down goes to the next line');
  await page.key('Escape');
  assert.equal(await page.run(() => pith.state.selected), -1);
  await page.key('g');
  assert.equal(await page.run(() => pith.state.granularity), 'word');
  await page.key(']');
  await page.key(']');
  assert.equal(await page.run(() => pith.state.layer), 1);
  await page.key('[');
  assert.equal(await page.run(() => pith.state.layer), 0);
  await page.key(',');
  assert.equal(await page.run(() => pith.state.time), 6);
  await page.key('t');
  assert.equal(await page.run(() => pith.state.theme), 'light');
  await page.key(' ');
  assert.equal(await page.run(() => pith.state.playing), true);
  await page.key(' ');
  assert.equal(await page.run(() => pith.state.playing), false);
  await page.key('?');
  assert.equal(await page.run(() => document.querySelector('#help').open), true);
  await page.key('Escape');
  assert.equal(await page.run(() => document.querySelector('#help').open), false);
  // Every control can be reached by Tab and shows it.
  const reached = new Set();
  await page.run(() => document.activeElement.blur());
  for (let i = 0; i < 60; ++i) {
    await page.key('Tab');
    reached.add(await page.run(
        () => document.activeElement.id || document.activeElement.name || document.activeElement.tagName));
  }
  for (const id
           of ['open', 'theme', 'keys', 'play', 'time', 'speed', 'layer', 'granularity', 'text', 'heat', 'triangle',
               'heat-measure', 'occurs'])
    assert.ok(reached.has(id), `Tab reaches ${id}: ${[...reached]}`);
});

await test('zoom, pan and walk in the maps', async (open) => {
  const json = trace({tokens: 300, layers: 6, seed: 34});
  const page = await open(json);
  for (const [id, range] of [['#heat', () => pith.heat.range], ['#triangle', () => pith.triangle.xs]]) {
    const span = () => page.run(`(() => { const { lo, hi } = (${range})(); return [lo, hi]; })()`);
    const {x, y, w, h} = await page.place(id);
    await settle(page);
    assert.deepEqual(await span(), [0, 300]);
    for (let i = 0; i < 4; ++i) await page.wheel(x + w * 0.7, y + h / 2, -200, 2);
    const [lo, hi] = await span();
    assert.ok(hi - lo < 100 && lo > 100, `zoomed to the pointer: ${lo}-${hi}`);
    await page.drag(x + w * 0.4, y + h / 2, x + w * 0.6, y + h / 2);
    const [lo1, hi1] = await span();
    assert.ok(lo1 < lo && hi1 - lo1 === hi - lo, `dragging to the right goes back: ${lo1}`);
    await page.run((s) => document.querySelector(s).focus(), id);
    await page.key('-');
    const [lo2, hi2] = await span();
    assert.ok(hi2 - lo2 > hi1 - lo1);
    await page.key('0');
    assert.deepEqual(await span(), [0, 300]);
    await page.key('+');
    await page.key('ArrowRight');
    await page.key('ArrowLeft');
    await page.key('ArrowDown');
    const told = await page.run((s) => document.querySelector(`${s}-readout`).textContent, id);
    assert.match(told, /^Layer \d, token|^Token/);
    await page.key('0');
    await page.key('Enter');
    assert.ok((await page.run(() => pith.state.selected)) >= 0, 'Enter selects');
    await page.run(() => pith.set({selected: -1}));
    const zoomIn = `.zoom[data-for="${id.slice(1)}"] button[aria-label="Zoom in"]`;
    await page.clickOn(zoomIn);
    const [lo3, hi3] = await span();
    assert.ok(hi3 - lo3 < 300);
    await page.clickOn(`.zoom[data-for="${id.slice(1)}"] button[aria-label="Show all"]`);
  }
  await page.clickOn('#thumbs button:nth-child(5)');
  assert.equal(await page.run(() => pith.state.layer), 4);
  // A plain wheel scrolls the page.
  const {x, y} = await page.place('#heat');
  await page.wheel(x + 300, y + 30, 200);
  assert.deepEqual(await page.run(() => [pith.heat.range.lo, pith.heat.range.hi]), [0, 300]);
});

await test('a second trace: given, chosen, dropped, removed', async (open) => {
  const a = trace({tokens: 180, layers: 4, seed: 41});
  const b = trace({tokens: 180, layers: 4, seed: 42, textSeed: 41, tau: 0.7});
  const page = await open(a, b);
  assert.equal(await page.run(() => document.querySelectorAll('#summary .trace').length), 2);
  assert.equal(await page.run(() => pith.state.common), 180);
  await page.clickOn('#view label:nth-child(2)');
  assert.equal(await page.run(() => pith.state.view), 'b');
  await compareB();
  await page.clickOn('#view label:nth-child(3)');
  await page.run(() => pith.setTime(120));
  const difference = await page.run(() => pith.difference());
  a.pieces.forEach(
      (_, j) => near(
          difference[j], j > 120 ? null : plain.heldFraction(a, -1, -1, j, 120) - plain.heldFraction(b, -1, -1, j, 120),
          `A - B of ${j}`));
  await page.run(() => document.querySelector('#text').scrollIntoView({block: 'center'}));
  await settle(page);
  const seen = new Set();
  for (let j = 0; j <= 120; j += 3) {
    const classes = (await page.run((at) => pith.classOf(at), j)).split(' ');
    const d = difference[j], level = Math.ceil(Math.abs(d) * 5 - 1e-9);
    const name = level === 0 ? 'd0' : `${d > 0 ? 'p' : 'm'}${level}`;
    assert.ok(classes.includes(name), `${j}: ${classes} for ${d}`);
    seen.add(name[0]);
  }
  assert.equal(seen.size, 3, 'all kinds of difference occur');
  await page.run(() => document.querySelector('#heat').scrollIntoView({block: 'center'}));
  await settle(page);
  const {edges, values} = await page.run(() => pith.heat.drawn());
  for (const l of [0, 3])
    for (const j of [0, 60, 119]) {
      const c = edges.indexOf(j);
      const want = plain.survival(a, l, -1, j, 120) - plain.survival(b, l, -1, j, 120);
      assert.ok(Math.abs(values[l * (edges.length - 1) + c] - want) < 1e-6);
    }
  await page.clickOn('#remove');
  assert.deepEqual(
      await page.run(() => [pith.state.view, pith.state.compared, document.querySelector('#view').hidden]),
      ['a', false, true]);

  // By the file picker: a trace of another length, dense, with another number of lanes.
  const other =
      trace({tokens: 90, layers: 3, lanes: 2, seed: 43, kind: 'dense', pieces: a.pieces.slice(0, 90), prompt: 60});
  other.tokens = a.tokens.slice(0, 90);
  const file = join(folder, 'other.json');
  writeFileSync(file, JSON.stringify(other));
  const {root} = await page.call('DOM.getDocument');
  const {nodeId} = await page.call('DOM.querySelector', {nodeId: root.nodeId, selector: '#file'});
  await page.call('DOM.setFileInputFiles', {files: [file], nodeId});
  await settle(page);
  assert.deepEqual(await page.run(() => [pith.state.compared, pith.state.common]), [true, 90]);
  assert.match(await page.run(() => document.querySelector('#message').textContent), /first 90 tokens/);
  for (const view of ['b', 'difference', 'a'])
    for (const granularity of ['word', 'sentence', 'token']) {
      await page.run((v, g) => pith.set({view: v, granularity: g, time: 150}), view, granularity);
      await settle(page);
    }

  // By dropping a whole report, and by dropping nonsense.
  const drop = (name, text) => page.run((n, t) => {
    const data = new DataTransfer();
    data.items.add(new File([t], n));
    document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
  }, name, text);
  await drop('report.html', `<!doctype html><script id="trace" type="application/json">${embed(b)}</script>`);
  await settle(page);
  assert.equal(await page.run(() => pith.state.common), 180);
  await page.run(() => pith.set({view: 'b'}));
  await compareB();
  await drop('broken.json', '{"format": "something else"}');
  await settle(page);
  assert.match(await page.run(() => document.querySelector('#message').textContent), /broken\.json cannot be shown/);
  assert.equal(await page.run(() => pith.state.common), 180, 'the trace before stays');

  async function compareB() {
    const live = await page.run(() => pith.live());
    b.pieces.forEach((_, n) => assert.equal(live[n], plain.liveRows(b, -1, -1, n)));
  }
});

await test('A - B of one head', async (open) => {
  const a = trace({tokens: 90, layers: 3, lanes: 2, seed: 44});
  const b = trace({tokens: 90, layers: 3, lanes: 2, seed: 45, textSeed: 44, tau: 0.7});
  const page = await open(a, b);
  await page.run(() => {
    pith.set({view: 'difference', lane: 1, time: 70});
    document.querySelector('#heat').scrollIntoView({block: 'center'});
  });
  await settle(page);
  const difference = await page.run(() => pith.difference());
  const {edges, values} = await page.run(() => pith.heat.drawn());
  for (let j = 0; j <= 70; ++j) {
    near(difference[j], plain.heldFraction(a, -1, 1, j, 70) - plain.heldFraction(b, -1, 1, j, 70), `A - B of ${j}`);
    for (let l = 0; l < 3; ++l) {
      const want = plain.survival(a, l, 1, j, 70) - plain.survival(b, l, 1, j, 70);
      assert.ok(Math.abs(values[l * (edges.length - 1) + edges.indexOf(j)] - want) < 1e-6, `map of ${l}, ${j}`);
    }
  }
});

await test('a long trace: every view keeps up with a drag', async (open) => {
  const page = await open(trace({tokens: 6000, layers: 32, seed: 46}));
  await page.run(() => document.querySelector('#text').scrollIntoView({block: 'start'}));
  await settle(page);
  const drawn = await page.run(async () => {
    const slider = document.querySelector('#time'), seen = {text: new Set(), heat: new Set(), now: new Set()};
    for (let i = 1; i <= 24; ++i) {
      slider.value = i * 170;
      slider.dispatchEvent(new Event('input'));
      await new Promise(requestAnimationFrame);
      await new Promise((done) => setTimeout(done));
      seen.text.add(document.querySelector('#text .reading')?.id);
      seen.now.add(document.querySelector('#now').textContent);
      seen.heat.add(pith.heat.drawn().values.findIndex(Number.isNaN));
    }
    await pith.idle();
    seen.last = [document.querySelector('#text .reading').id, document.querySelector('#now').textContent];
    return {text: seen.text.size, now: seen.now.size, heat: seen.heat.size, last: seen.last};
  });
  for (const view of ['text', 'now', 'heat'])
    assert.ok(drawn[view] >= 8, `${view} was drawn ${drawn[view]} times in 24 frames`);
  assert.equal(drawn.last[0], `t${24 * 170}`);
  assert.match(drawn.last[1], /^Token 4,080 of 6,000 /);
});

await test('a trace that is none', async (open) => {
  const file = join(folder, 'broken.html');
  const json = trace({tokens: 5, layers: 1});
  json.drop_at[0][0].pop();
  writeFileSync(file, report(json));
  const page = await browser.open({url: `file://${file}`});
  assert.match(
      await page.run(() => document.querySelector('#message').textContent),
      /cannot be shown: drop_at\[0\]\[0\] has 4 positions, expected 5/);
  await page.close();
});

await test('nothing overlaps or sticks out, wide and narrow, light and dark', async (open) => {
  const a = trace({tokens: 260, layers: 32, lanes: 2, seed: 51, text: 'nasty'});
  const b = trace({tokens: 260, layers: 32, lanes: 2, seed: 52, textSeed: 51, text: 'nasty', tau: 1});
  a.policy = 'gate,h2o(rows=1024,recent=256),for_layers(3,4,5,streaming(sinks=4,recent=1024))';
  const page = await open(a, b);
  for (const width of [1280, 900, 390])
    for (const theme of ['light', 'dark']) {
      await page.theme(theme);
      await page.size(width);
      await page.run(() => pith.select(100));
      await settle(page);
      const wide = await page.run(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${width}: the page is ${wide} wide`);
      const clashes = await page.run(() => {
        const boxes = (selector) => [...document.querySelectorAll(selector)]
                                        .filter((e) => e.getClientRects().length)
                                        .map((e) => [e, e.getBoundingClientRect()]);
        const name = (e) => e.id || e.className || e.textContent.slice(0, 20);
        const found = [];
        for (const group
                 of ['header > *, #bar > *', '.actions > *', '#clock > *', '.transport > *', '#scope > *',
                     'main > section', 'section > *', '.title > *', '.tools > *', '#legend > *', '.trace > *',
                     '.trace dl > *', '.pair > *', '.columns > *', '.ramp > *', '#thumbs > *', '#card > *',
                     '#card tr > *', '.strings tr > *', '#honest dl > *']) {
          const all = boxes(group);
          for (let i = 0; i < all.length; ++i)
            for (let k = i + 1; k < all.length && k < i + 12; ++k) {
              const [p, q] = [all[i], all[k]];
              if (p[0].contains(q[0]) || q[0].contains(p[0])) continue;
              const across = Math.min(p[1].right, q[1].right) - Math.max(p[1].left, q[1].left);
              const down = Math.min(p[1].bottom, q[1].bottom) - Math.max(p[1].top, q[1].top);
              if (across > 1 && down > 1 && getComputedStyle(p[0]).position !== 'sticky' &&
                  getComputedStyle(q[0]).position !== 'sticky')
                found.push(`${group}: ${name(p[0])} x ${name(q[0])}`);
            }
        }
        for (const [e, box] of boxes('button, select, p, h1, h2, h3, dd, dt, canvas, th'))
          if (box.right > innerWidth + 1 || box.left < -1) {
            if (!e.closest('#tip, #help')) found.push(`${name(e)} sticks out`);
          }
        return found;
      });
      assert.deepEqual(clashes, [], `at ${width}, ${theme}`);
    }
});

await finish();
