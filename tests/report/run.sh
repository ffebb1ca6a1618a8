#!/bin/sh
# SPDX-License-Identifier: MIT
# The tests of the HTML report; 77 (skipped) where node or chromium is missing.
cd "$(dirname "$0")" || exit 1
skip() { echo "SKIPPED: $1" >&2; exit 77; }
command -v node >/dev/null || skip 'no node'
node --input-type=module -e 'import { chromium } from "./browser.mjs"; process.exit(chromium ? 0 : 1)' || skip 'no chromium (set CHROMIUM)'
if command -v python3 >/dev/null; then
  node traces.mjs | python3 schema_test.py || exit 1
fi
# Mostly they wait for frames: side by side.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
node reader_test.mjs "$@" >"$said" 2>&1 &
failed=0
node numbers_test.mjs "$@" || failed=1
wait $! || failed=1
cat "$said"
exit $failed
