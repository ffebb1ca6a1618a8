// SPDX-License-Identifier: MIT
// What the tests of the report share: one browser, a page per trace, and a line per test.
import assert from 'node:assert/strict';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

import {launch} from './browser.mjs';
import {report} from './inline.mjs';

export const folder = mkdtempSync(join(tmpdir(), 'pith-report-test-'));
export const browser = await launch();
let failed = 0, run = 0;

export async function test(name, body) {
  if (process.argv[2] && !name.includes(process.argv[2])) return;
  ++run;
  const pages = [];
  const open = async (first, second = null, options = {}) => {
    const file = join(folder, `${run}-${pages.length}.html`);
    writeFileSync(file, report(first, second));
    const page = await browser.open({url: `file://${file}`, ...options});
    pages.push(page);
    await page.run(() => pith.ready);
    return page;
  };
  try {
    await body(open);
    for (const {problems, requests} of pages) {
      assert.deepEqual(problems, [], 'nothing is said on the console');
      assert.ok(requests.every((url) => url.startsWith('file:')), `no network: ${requests}`);
    }
    console.log(`ok    ${name}`);
  } catch (error) {
    ++failed;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
  for (const page of pages) await page.close();
}

export const near = (got, expected, what) => {
  if (expected === null)
    assert.ok(got === null || Number.isNaN(got), `${what}: ${got} instead of nothing`);
  else
    assert.ok(Math.abs(got - expected) < 1e-9, `${what}: ${got} instead of ${expected}`);
};
/// Waits until what came into sight is drawn.
export async function settle(page) {
  await new Promise((done) => setTimeout(done, 60));
  await page.idle();
}

export async function finish() {
  await browser.close();
  rmSync(folder, {recursive: true, force: true});
  console.log(`${run - failed} of ${run} passed`);
  process.exit(failed || (!run && !process.argv[2]) ? 1 : 0);
}
