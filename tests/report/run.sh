#!/bin/sh
# SPDX-License-Identifier: MIT
# The tests of the HTML report; 77 (skipped) where node or chromium is missing.
cd "$(dirname "$0")" || exit 1
skip() { echo "SKIPPED: $1" >&2; exit 77; }
command -v node >/dev/null || skip 'no node'
node --experimental-websocket -e 'process.exit(typeof WebSocket === "function" ? 0 : 1)' 2>/dev/null || skip 'this node has no WebSocket (20.10 or newer has)'
node --input-type=module -e 'import { chromium } from "./browser.mjs"; process.exit(chromium ? 0 : 1)' || skip 'no chromium (set CHROMIUM)'
if command -v python3 >/dev/null; then
  node traces.mjs | python3 schema_test.py || exit 1
fi
failed=0
for test in numbers_test.mjs reader_test.mjs; do
  node --experimental-websocket --no-warnings "$test" "$@" || failed=1
done
exit $failed
