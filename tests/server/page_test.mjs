// SPDX-License-Identifier: MIT
// The page at "/": what it shows of a conversation, by hand and by eye. page_test.mjs [FOLDER for pictures]
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

import {launch} from '../report/browser.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const tool = process.env.PITH_TOOL ?? join(root, 'build/release/bin/pith');
const model = process.env.PITH_PAGE_MODEL ?? join(root, 'examples/models/bookworm-1m');
const folder = mkdtempSync(join(tmpdir(), 'pith-page-'));
const pictures = process.argv[2];
if (pictures) mkdirSync(pictures, {recursive: true});

async function serve(...more) {
  const form = join(folder, 'form.jinja');
  writeFileSync(
      form,
      '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}');
  const own = process.env.PITH_PAGE_MODEL ? [] : ['--template', form];
  const child = spawn(tool, ['serve', '-m', model, '--port', '0', ...own, ...more], {stdio: ['ignore', 'ignore', 'pipe']});
  let said = '';
  const url = await new Promise((resolve, reject) => {
    child.stderr.on('data', (text) => {
      said += text;
      const found = said.match(/listening on (\S+)\n/);
      if (found) resolve(found[1]);
    });
    child.on('exit', () => reject(new Error(said)));
  });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  return {
    url,
    async close() {
      child.kill('SIGTERM');
      assert.equal(await gone, 130, said);
    },
    async pending() {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(text.match(/^pith_requests_pending (\d+)/m)[1]);
    },
  };
}

const browser = await launch();
const server = await serve('--policy', 'gate', '--policy', 'dense=none');
let failed = 0;

async function test(name, body) {
  const pages = [];
  const open = async (options = {}) => {
    const page = await browser.open({url: `${server.url}/`, ...options});
    pages.push(page);
    await page.run(() => pith.ready);
    return page;
  };
  try {
    await body(open);
    for (const {problems, requests} of pages) {
      assert.deepEqual(problems, [], 'nothing is said on the console');
      assert.ok(requests.every((url) => url.startsWith(server.url) || url.startsWith('data:')), `${requests}`);
    }
    console.log(`ok    ${name}`);
  } catch (error) {
    ++failed;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
  for (const page of pages) await page.close();
}

const until = async (page, what) => {
  for (const end = Date.now() + 60000; !(await page.run(what));) {
    assert.ok(Date.now() < end, `waited for ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
};
const type = (page, text) => page.call('Input.insertText', {text});
const set = (page, values) => page.run((all) => {
  for (const [id, value] of Object.entries(all)) document.getElementById(id).value = value;
}, values);
async function say(page, text) {
  await page.run(() => document.getElementById('words').focus());
  await type(page, text);
  await page.key('Enter');
  await until(page, '!pith.state.running && document.getElementById("words").value === ""');
}
const shown = (page) => page.run(() => [...document.querySelectorAll('.token')].map((span) => span.textContent).join(''));
const long = 'The old house stood at the end of the lane, and Anna said that nobody had lived there for years. '.repeat(3);

await test('a conversation is shown as the model reads it, and fades as it is told', async (open) => {
  const page = await open();
  await set(page, {temperature: 0, most: 24, tau: 1.5});
  await say(page, long);
  const messages = [{role: 'user', content: long}];
  const ask = {messages, temperature: 0, max_tokens: 24, pith: {policy: 'default', tau: 1.5}};
  const answer = await (await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify(ask),
  })).json();
  const [{message, pith: held}] = answer.choices;
  assert.equal(await shown(page), `user: ${long}\nassistant: ${message.content}`);
  const state = await page.run(() => ({
    dropped: pith.state.dropped,
    rows: pith.state.rows,
    tokens: pith.state.tokens.map(({dropped, span}) => [dropped, Number(getComputedStyle(span).getPropertyValue('--held'))]),
  }));
  assert.equal(state.dropped, held.rows_dropped);
  assert.ok(state.dropped > 0);
  assert.equal(state.tokens.reduce((sum, [dropped]) => sum + dropped, 0), held.rows_dropped);
  for (const [dropped, part] of state.tokens) assert.ok(Math.abs(part - (1 - dropped / state.rows)) < 1e-3);
  const colours = await page.run(() => new Set([...document.querySelectorAll('.token')].map((span) => getComputedStyle(span).color)).size);
  assert.ok(colours > 2, `${colours} shades`);
  assert.match(await page.run(() => document.getElementById('figures').textContent), /\d+ tokens · \d+% held · .* of .*/);
  if (pictures) await page.shot(join(pictures, 'light.png'), false);

  await say(page, 'And then?');
  assert.deepEqual(
      await page.run(() => pith.state.messages.map(({role}) => role)), ['user', 'assistant', 'user', 'assistant']);
  assert.ok((await shown(page)).startsWith(`user: ${long}\nassistant: ${message.content}`), 'it goes on');
  await page.clickOn('#fresh');
  assert.equal(await shown(page), '');
});

await test('policies can be chosen', async (open) => {
  const page = await open();
  await page.run(() => {
    document.getElementById('policy').value = 'dense';
    document.getElementById('policy').dispatchEvent(new Event('change'));
  });
  assert.ok(await page.run(() => document.getElementById('taus').hidden));
  await set(page, {most: 8});
  await say(page, long);
  assert.equal(await page.run(() => pith.state.dropped), 0);
  assert.match(await page.run(() => document.getElementById('figures').textContent), /100% held/);
});

await test('Escape ends an answer, on the server too', async (open) => {
  const page = await open();
  await set(page, {most: 900});
  await page.run(() => document.getElementById('words').focus());
  await type(page, 'Once');
  await page.key('Enter');
  await until(page, 'pith.state.tokens.length > 8 || !pith.state.running');
  await page.key('Escape');
  await until(page, '!pith.state.running');
  for (const end = Date.now() + 20000; await server.pending() > 0;) assert.ok(Date.now() < end);
  assert.equal(await page.run(() => pith.state.messages.length), 2, 'what there is of the answer stays');
});

await test('what is refused is said, and nothing is lost', async (open) => {
  const page = await open();
  await set(page, {most: 99999});
  await page.run(() => document.getElementById('words').focus());
  await type(page, 'my words');
  await page.key('Enter');
  await until(page, 'document.getElementById("problem").textContent !== ""');
  assert.match(await page.run(() => document.getElementById('problem').textContent), /^max_tokens: expected/);
  assert.equal(await page.run(() => document.getElementById('words').value), 'my words');
  assert.equal(await page.run(() => pith.state.messages.length), 0);
  page.problems.splice(0, page.problems.length, ...page.problems.filter((text) => !text.includes('400')));
});

await test('words are words', async (open) => {
  const page = await open();
  await set(page, {most: 4});
  const evil = '<img src=x onerror=alert(1)><script>alert(2)</script> & "quotes" 🙂 café';
  await say(page, evil);
  assert.ok((await shown(page)).includes(evil));
  assert.equal(await page.run(() => document.querySelectorAll('#log img, #log script').length), 0);
});

await test('light, dark, and narrow', async (open) => {
  const background = (page) => page.run(() => getComputedStyle(document.body).backgroundColor);
  const light = await open(), dark = await open({dark: true, width: 390, height: 844});
  assert.notEqual(await background(light), await background(dark));
  await set(dark, {most: 40, tau: 1.5});
  await say(dark, long);
  assert.ok(await dark.run(() => document.documentElement.scrollWidth <= innerWidth), 'nothing sticks out');
  if (pictures) await dark.shot(join(pictures, 'dark-narrow.png'), false);
  await light.clickOn('#theme');
  await light.clickOn('#theme');
  assert.equal(await background(light), await background(dark), 'the theme can be chosen');
});

await test('its policy lets nothing in', async () => {
  const response = await fetch(`${server.url}/`);
  const policy = response.headers.get('content-security-policy');
  assert.match(policy, /^default-src 'none'; script-src 'nonce-[0-9a-f]+'; style-src 'nonce-[0-9a-f]+'; connect-src 'self';/);
  const again = (await fetch(`${server.url}/`)).headers.get('content-security-policy');
  assert.notEqual(policy, again, 'a nonce is used once');
  assert.ok(!(await response.text()).includes('@NONCE@'));
});

await browser.close();
await server.close();
rmSync(folder, {recursive: true, force: true});
process.exit(failed ? 1 : 0);
