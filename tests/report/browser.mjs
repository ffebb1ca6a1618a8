// SPDX-License-Identifier: MIT
// Headless Chromium over its DevTools protocol: open a page, evaluate, press, point, look.
import {spawn} from 'node:child_process';
import {existsSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

export const chromium = [
  process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'
].find((path) => path && existsSync(path));

export async function launch() {
  const profile = mkdtempSync(join(tmpdir(), 'pith-report-'));
  const child = spawn(
      chromium,
      [
        '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
        '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars',
        '--force-device-scale-factor=1', `--user-data-dir=${profile}`, '--remote-debugging-pipe', 'about:blank'
      ],
      {stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe']});  // it listens on 3 and speaks on 4
  let last = 0;
  const answers = new Map(), listeners = new Map();
  const receive = (text) => {
    const {id, sessionId, method, params, result, error} = JSON.parse(text);
    if (id) {
      const {resolve, reject} = answers.get(id);
      answers.delete(id);
      if (error)
        reject(new Error(error.message));
      else
        resolve(result);
    } else {
      listeners.get(sessionId)?.(method, params);
    }
  };
  // Messages end with a zero; parts of one are kept until it does.
  let parts = [];
  child.stdio[4].on('data', (bytes) => {
    for (let end; (end = bytes.indexOf(0)) >= 0; bytes = bytes.subarray(end + 1)) {
      receive(Buffer.concat([...parts, bytes.subarray(0, end)]).toString());
      parts = [];
    }
    if (bytes.length) parts.push(bytes);
  });
  let said = '';
  child.stderr.on('data', (text) => {
    said = (said + text).slice(-400);
  });
  child.on('exit', (code) => {
    for (const {reject} of answers.values()) reject(new Error(`chromium left with ${code}: ${said}`));
  });
  child.stdio[3].on('error', () => {});  // it has left: said above
  const send = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    answers.set(++last, {resolve, reject});
    child.stdio[3].write(`${JSON.stringify({id: last, method, params, sessionId})}\0`);
  });

  return {
    send,
    open: (options) => open(send, listeners, options),
    async close() {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      await send('Browser.close').catch(() => child.kill());
      await gone;
      rmSync(profile, {recursive: true, force: true, maxRetries: 5});
    },
  };
}

async function open(send, listeners, {url, width = 1280, height = 900, dark = false, scale = 1, touch = false}) {
  const {targetId} = await send('Target.createTarget', {url: 'about:blank'});
  const {sessionId} = await send('Target.attachToTarget', {targetId, flatten: true});
  const call = (method, params) => send(method, params, sessionId);
  const problems = [], requests = [];
  let loaded = null;
  listeners.set(sessionId, (method, params) => {
    if (method === 'Runtime.exceptionThrown')
      problems.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === 'Runtime.consoleAPICalled' && ['error', 'warning', 'assert'].includes(params.type))
      problems.push(params.args.map((arg) => arg.description ?? arg.value).join(' '));
    if (method === 'Log.entryAdded' && params.entry.level === 'error') problems.push(params.entry.text);
    if (method === 'Network.requestWillBeSent') requests.push(params.request.url);
    if (method === 'Page.loadEventFired') loaded?.();
    if (method === 'Page.javascriptDialogOpening') {
      problems.push(`dialog: ${params.message}`);
      call('Page.handleJavaScriptDialog', {accept: true});
    }
  });
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await call(`${domain}.enable`);
  const size = (w, h = height, s = scale) =>
      call('Emulation.setDeviceMetricsOverride', {width: w, height: h, deviceScaleFactor: s, mobile: false});
  const theme = (value) => call('Emulation.setEmulatedMedia', {features: [{name: 'prefers-color-scheme', value}]});
  await call('Performance.enable', {timeDomain: 'threadTicks'});
  await size(width);
  await theme(dark ? 'dark' : 'light');
  if (touch) await call('Emulation.setTouchEmulationEnabled', {enabled: true});
  const done = new Promise((resolve) => {
    loaded = resolve;
  });
  await call('Page.navigate', {url});
  await done;

  const page = {call, problems, requests, size, theme};
  /// Processor time of the page's main thread so far, by kind, in ms: what a busy machine cannot falsify.
  page.spent = async () =>
      Object.fromEntries((await call('Performance.getMetrics')).metrics.map(({name, value}) => [name, value * 1000]));
  /// Evaluates an expression, or a function with arguments, in the page.
  page.run = async (code, ...args) => {
    const expression = typeof code === 'function' ? `(${code})(...${JSON.stringify(args)})` : code;
    const {result, exceptionDetails} =
        await call('Runtime.evaluate', {expression, awaitPromise: true, returnByValue: true});
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  page.idle = () => page.run('pith.idle().then(() => pith.idle())');
  page.place = (selector) => page.run((s) => {
    const found = document.querySelector(s);
    found.scrollIntoView({block: 'center'});
    const {left, top, width: w, height: h} = found.getBoundingClientRect();
    return {x: left, y: top, w, h};
  }, selector);
  const mouse = (type, x, y, more = {}) =>
      call('Input.dispatchMouseEvent', {type, x, y, button: 'left', clickCount: 1, ...more});
  page.hover = async (x, y) => {
    await mouse('mouseMoved', x, y, {button: 'none'});
    await page.idle();
  };
  page.click = async (x, y) => {
    await mouse('mouseMoved', x, y, {button: 'none'});
    await mouse('mousePressed', x, y);
    await mouse('mouseReleased', x, y);
    await page.idle();
  };
  page.clickOn = async (selector) => {
    const {x, y, w, h} = await page.place(selector);
    await page.click(x + w / 2, y + h / 2);
  };
  page.drag = async (x0, y0, x1, y1, steps = 8) => {
    await mouse('mouseMoved', x0, y0, {button: 'none'});
    await mouse('mousePressed', x0, y0);
    for (let i = 1; i <= steps; ++i)
      await mouse('mouseMoved', x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps, {buttons: 1});
    await mouse('mouseReleased', x1, y1);
    await page.idle();
  };
  page.wheel = async (x, y, deltaY, modifiers = 0) => {
    await call('Input.dispatchMouseEvent', {type: 'mouseWheel', x, y, deltaX: 0, deltaY, modifiers});
    await page.idle();
  };
  page.key = async (key, modifiers = 0) => {
    const text = key.length === 1 ? key : key === 'Enter' ? '\r' : undefined;
    const code = {
      Enter: 13,
      Escape: 27,
      ' ': 32,
      PageUp: 33,
      PageDown: 34,
      End: 35,
      Home: 36,
      ArrowLeft: 37,
      ArrowUp: 38,
      ArrowRight: 39,
      ArrowDown: 40,
      Tab: 9
    }[key];
    await call(
        'Input.dispatchKeyEvent',
        {type: text ? 'keyDown' : 'rawKeyDown', key, text, modifiers, windowsVirtualKeyCode: code});
    await call('Input.dispatchKeyEvent', {type: 'keyUp', key, modifiers, windowsVirtualKeyCode: code});
    await page.idle();
  };
  page.shot = async (file, whole = true) => {
    const {data} = await call('Page.captureScreenshot', {
      format: 'png',
      captureBeyondViewport: whole,
      ...(whole ? await page.run(() => ({
                                   clip: {
                                     x: 0,
                                     y: 0,
                                     width: document.documentElement.clientWidth,
                                     height: document.documentElement.scrollHeight,
                                     scale: 1
                                   }
                                 })) :
                  {})
    });
    writeFileSync(file, Buffer.from(data, 'base64'));
  };
  page.close = () => send('Target.closeTarget', {targetId});
  return page;
}
