// SPDX-License-Identifier: MIT
// The figures of a long trace: node measure.mjs [TOKENS LAYERS [LANES]]
// Size of the file, first paint, and what a step of the slider costs, with every view in its turn in sight.
import {mkdtempSync, rmSync, statSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

import {launch} from './browser.mjs';
import {report} from './inline.mjs';
import {trace} from './traces.mjs';

const [tokens = 10000, layers = 32, lanes = 1] = process.argv.slice(2).map(Number);
const folder = mkdtempSync(join(tmpdir(), 'pith-report-measure-'));
const file = join(folder, 'report.html');
// Half given in chunks of 512, half generated one by one: a pass for each.
const json = trace({tokens, layers, lanes, seed: 9, prompt: Math.ceil(tokens / 2), chunk: 512});
writeFileSync(file, report(json));
const megabytes = statSync(file).size / 1e6;

const browser = await launch();
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const ready = [], paint = [], work = [];
let page = null;
for (let i = 0; i < 5; ++i) {
  await page?.close();
  page = await browser.open({url: `file://${file}`});
  ready.push(await page.run(() => pith.ready));
  work.push((await page.spent()).TaskDuration);
  await new Promise((done) => setTimeout(done, 1500));
  paint.push(await page.run(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1));
}
console.log(`${tokens} tokens x ${layers} layers x ${lanes} lanes`);
console.log(`file                      ${megabytes.toFixed(2)} MB`);
console.log(`first contentful paint    ${median(paint).toFixed(0)} ms (worst of 5: ${Math.max(...paint).toFixed(0)})`);
console.log(`text shaded and usable    ${median(ready).toFixed(0)} ms (worst of 5: ${Math.max(...ready).toFixed(0)})`);

/// Drags the slider: another place for every frame. Returns the ms between frames, sorted.
const STEPS = 60;
const drag = (part, by) => page.run(async (selector, step, T, steps) => {
  document.querySelector(selector).scrollIntoView({block: 'center'});
  pith.setTime(0);
  await new Promise((done) => setTimeout(done, 300));
  const slider = document.querySelector('#time');
  const frames = [];
  let last = await new Promise(requestAnimationFrame);
  for (let i = 1; i <= steps; ++i) {
    slider.value = (i * step) % T;
    slider.dispatchEvent(new Event('input'));
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
  }
  await pith.idle();
  return frames.sort((a, b) => a - b);
}, part, by, tokens, STEPS);

/// Single jumps: ms until every view in sight is drawn, sorted.
const jump = (by) => page.run(async (step, T, steps) => {
  const slider = document.querySelector('#time');
  const waits = [];
  for (let i = 1; i <= steps; ++i) {
    await new Promise((done) => setTimeout(done, 50));
    const begin = performance.now();
    slider.value = (i * step) % T;
    slider.dispatchEvent(new Event('input'));
    await pith.idle();
    waits.push(performance.now() - begin);
  }
  return waits.sort((a, b) => a - b);
}, by, tokens, 11);

console.log(`  main thread until then  ${median(work).toFixed(0)} ms`);
console.log('slider, with this in sight      main thread per frame (script, style and layout)   frames, and all drawn');
for (const [name, selector] of [
         ['text', '#text'], ['survival map', '#heat'], ['triangle', '#triangle'], ['curves', '#rows'],
         ['tables', '#strings']])
  for (const [how, by] of [['step by step', 1], ['in leaps', Math.floor(tokens / STEPS)]]) {
    await drag(selector, by);
    const before = await page.spent();
    const frames = await drag(selector, by);
    const after = await page.spent();
    const each = (...keys) => keys.reduce((sum, key) => sum + after[key] - before[key], 0) / STEPS;
    const [all, script, looks] = [
      each('TaskDuration'), each('ScriptDuration'), each('RecalcStyleDuration', 'LayoutDuration')
    ].map((x) => x.toFixed(1));
    const waits = await jump(by);
    const drawn = `median ${median(frames).toFixed(1)} ms, worst ${frames.at(-1).toFixed(1)} ms; ` +
        `${median(waits).toFixed(1)} ms, worst ${waits.at(-1).toFixed(1)} ms`;
    console.log(`${name.padEnd(13)} ${how.padEnd(13)} ${all.padStart(8)} ms (${script}, ${looks})   ${drawn}`);
  }
if (page.problems.length) console.log(page.problems);
await browser.close();
rmSync(folder, {recursive: true, force: true});
