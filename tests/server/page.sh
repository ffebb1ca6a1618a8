#!/bin/sh
# SPDX-License-Identifier: MIT
# The server's page in a headless browser; 77 (skipped) where node or chromium is missing. With a folder: pictures of it.
cd "$(dirname "$0")" || exit 1
skip() { echo "SKIPPED: $1" >&2; exit 77; }
command -v node >/dev/null || skip 'no node'
node --input-type=module -e 'import { chromium } from "../report/browser.mjs"; process.exit(chromium ? 0 : 1)' || skip 'no chromium (set CHROMIUM)'
exec node page_test.mjs "$@"
