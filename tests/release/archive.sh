#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A release packed twice, the second time from a clone, with other settings and at another time, is the same bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
git rev-parse HEAD &>/dev/null || { echo "no repository here"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cmake/archive.sh "$scratch/one"
git clone --quiet --no-hardlinks . "$scratch/clone"
cp cmake/archive.sh "$scratch/clone/cmake/archive.sh"
sleep 1
(umask 0077 && TZ=Asia/Tokyo LC_ALL=C "$scratch/clone/cmake/archive.sh" "$scratch/two")
cmp "$scratch"/one/pith-*.tar.gz "$scratch"/two/pith-*.tar.gz
# It holds what the repository does.
diff <(tar -tzf "$scratch"/one/pith-*.tar.gz | grep -v '/$' | cut -d / -f 2- | sort) <(git ls-tree -r --name-only HEAD | sort)
