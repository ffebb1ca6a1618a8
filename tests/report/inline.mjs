// SPDX-License-Identifier: MIT
// Makes one file of the report, as the library does: every placeholder of the template filled in one pass, so that
// nothing in a script or a trace is ever taken for a placeholder.
import {readFileSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const home = join(dirname(fileURLToPath(import.meta.url)), '../../src/trace/report');
const source = (name) => readFileSync(join(home, name), 'utf8');

/// JSON that cannot end the script element it stands in.
export const embed = (trace) => JSON.stringify(trace).replaceAll('<', '\\u003c');

export function report(trace, compare = null) {
  const scripts = source('order.txt').split('\n').filter((line) => line && !line.startsWith('#'));
  const parts = {
    '/*{{css}}*/': () => source('report.css'),
    '/*{{js}}*/': () => scripts.map(source).join(''),
    '{{trace}}': () => embed(trace),
    '{{compare}}': () => embed(compare),
  };
  return source('report.html')
      .split(/(\/\*\{\{css\}\}\*\/|\/\*\{\{js\}\}\*\/|\{\{trace\}\}|\{\{compare\}\})/)
      .map((piece) => parts[piece]?.() ?? piece)
      .join('');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , trace, out, compare] = process.argv;
  if (!out) {
    console.error('usage: node inline.mjs TRACE.json REPORT.html [COMPARE.json]');
    process.exit(2);
  }
  const read = (file) => JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(out, report(read(trace), compare ? read(compare) : null));
}
