// SPDX-License-Identifier: MIT
// Pictures of the report to look at: node shots.mjs FOLDER
import {mkdirSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';

import {launch} from './browser.mjs';
import {report} from './inline.mjs';
import {trace} from './traces.mjs';

const folder = process.argv[2] ?? '/tmp/report-shots';
mkdirSync(folder, {recursive: true});
const prose = trace({tokens: 620, layers: 12, seed: 5, prompt: 480});
const pages = {
  prose: report(prose),
  nasty: report(trace({tokens: 160, layers: 4, text: 'nasty', seed: 3})),
  heads: report(trace({tokens: 300, layers: 8, lanes: 4, kind: 'cache', seed: 4})),
  compare: report(prose, trace({tokens: 620, layers: 12, seed: 6, textSeed: 5, tau: 0.8, prompt: 480})),
};
const only = process.argv[3];
const browser = await launch();
for (const [name, html] of Object.entries(pages)) {
  if (only && only !== name) continue;
  const file = join(folder, `${name}.html`);
  writeFileSync(file, html);
  for (const width of [1280, 390])
    for (const dark of [false, true]) {
      if (name !== 'prose' && dark && width === 390) continue;
      const page = await browser.open({url: `file://${file}`, width, height: width === 390 ? 844 : 900, dark});
      await page.run(() => pith.ready);
      if (name === 'prose') await page.run(() => pith.select(240));
      if (name === 'compare') await page.run(() => pith.set({view: 'difference', time: 500}));
      if (name === 'heads') await page.run(() => pith.set({granularity: 'word', selected: 120, time: 150}));
      // A page as tall as its content, so that every view is in sight and draws.
      await new Promise((done) => setTimeout(done, 500));
      await page.shot(join(folder, `${name}-${width}-${dark ? 'dark' : 'light'}-first.png`), false);
      await page.size(width, await page.run(() => document.documentElement.scrollHeight));
      await page.idle();
      await new Promise((done) => setTimeout(done, 300));
      await page.idle();
      await page.shot(join(folder, `${name}-${width}-${dark ? 'dark' : 'light'}.png`));
      if (page.problems.length) console.error(name, width, page.problems);
      await page.close();
    }
}
await browser.close();
