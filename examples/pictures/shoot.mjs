// SPDX-License-Identifier: MIT
// Pictures of a report, and of a drawing whose SVG would be too large a file: node shoot.mjs REPORT.html DRAWING.svg FOLDER
import {writeFileSync} from 'node:fs';
import {basename, join, resolve} from 'node:path';

import {launch} from '../../tests/report/browser.mjs';

const [, , report, drawing, folder] = process.argv;
const browser = await launch();

/// A picture of the page, or of what `selector` names, `width` CSS pixels wide.
async function picture(name, {width, height, scale = 1, selector = null, prepare}) {
  const page = await browser.open({url: `file://${resolve(report)}`, width, height, scale});
  await page.run(() => pith.ready);
  await page.run(prepare);
  if (selector) await page.place(selector);
  await new Promise((done) => setTimeout(done, 500));
  await page.idle();
  const clip = await page.run((s) => {
    const {left, top, width: w, height: h} = s ? document.querySelector(s).getBoundingClientRect() :
                                                 {left: 0, top: 0, width: innerWidth, height: innerHeight};
    return {x: left + scrollX, y: top + scrollY, width: w, height: h, scale: 1};
  }, selector);
  const {data} = await page.call('Page.captureScreenshot', {format: 'png', captureBeyondViewport: true, clip});
  writeFileSync(join(folder, `${name}.png`), Buffer.from(data, 'base64'));
  if (page.problems.length) throw new Error(page.problems.join('\n'));
  await page.close();
}

// At the first digit of the answer: the shades are what the model answers from.
const answer = () => pith.setTime(pith.state.tokens - 4);
await picture('text', {width: 1000, height: 1000, selector: '#reading .columns > div', prepare: answer});
await picture('triangle', {width: 620, height: 1000, selector: '#sight .columns', prepare: () => pith.set({layer: 1})});
await picture('report', {
  width: 1280,
  height: 1110,
  prepare: () => {
    const name = [...document.querySelectorAll('#text span')].find((token) => token.textContent === ' Lamb');
    pith.select(Number(name.id.slice(1)));
    pith.setTime(pith.state.tokens - 4);
  }
});

const page = await browser.open({url: `file://${resolve(drawing)}`, width: 1000, height: 1000, scale: 1});
const clip = await page.run(() => {
  const {width, height} = document.documentElement.getBoundingClientRect();
  return {x: 0, y: 0, width, height, scale: 1};
});
const {data} = await page.call('Page.captureScreenshot', {format: 'webp', quality: 70, captureBeyondViewport: true, clip});
writeFileSync(join(folder, `${basename(drawing, '.svg')}.webp`), Buffer.from(data, 'base64'));
await browser.close();
