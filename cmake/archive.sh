#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The sources of a release: archive.sh FOLDER [COMMIT] writes FOLDER/pith-VERSION.tar.gz and its SHA-256. A commit gives
# the same bytes wherever and whenever it is packed: names are sorted, times are the commit's, nobody owns anything.
set -euo pipefail
folder=${1:?usage: archive.sh FOLDER [COMMIT]}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

commit=$(git rev-parse --verify "${2:-HEAD}^{commit}")
version=$(git show "$commit:CMakeLists.txt" | sed -n 's/^ *VERSION \([0-9.]*\)$/\1/p' | head -n 1)
name=pith-$version
# Whoever packs may have set git up otherwise.
git -c tar.umask=0022 -c core.autocrlf=false archive --format=tar --prefix="$name/" "$commit" |
  gzip --no-name --best >"$folder/$name.tar.gz"
(cd "$folder" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
