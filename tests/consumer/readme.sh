#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What README tells newcomers to type, as it stands there, with an installed pith: readme.sh PREFIX MODEL FOLDER.
# MODEL is the shipped one; a server that talks has a real one, where PITH_MODELS names a folder that has it.
set -euo pipefail
prefix=$1 model=$2 folder=$3
root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
rm -rf "$folder" && mkdir -p "$folder" && cd "$folder"

# The line of README between backquotes that begins so.
typed() {
  local line
  line=$(grep -o "\`$1[^\`]*\`" "$root/README.md" | head -n 1)
  [[ -n $line ]] || { echo "README.md: expected \`$1…\`, found none" >&2; exit 1; }
  echo "${line//\`/}"
}

cp "$root/examples/hello.c" app.c
command=$(typed 'cc app.c')
echo "$command"
bash -ec "$command"
text=$(./a.out "$model")
((${#text} > 100)) || { echo "hello.c: expected a text, found '$text'" >&2; exit 1; }

"$prefix/bin/pith" serve --help >help 2>&1 || true
grep -q -- --api-key-file help || { echo "skipped: this pith was built without its server"; exit 77; }
command -v curl >/dev/null || { echo "skipped: needs curl"; exit 77; }
# The block of README that begins with the server: it, and who asks it.
block=$(sed -n '/^pith serve -m MODEL --policy/,/^```/p' "$root/README.md" | sed '$d')
serve=${block%%$'\n'*} ask=${block#*$'\n'}
serve=${serve%%#*}
[[ $ask == curl* ]] || { echo "README.md: expected curl behind pith serve, found '$ask'" >&2; exit 1; }
real=${PITH_MODELS:-}/smollm2-135m-instruct.q4_1.gguf
gates=$root/examples/models/smollm2-135m-gates/gates.safetensors
if [[ -n ${PITH_MODELS:-} && -e $real ]]; then
  talks=("$real" --gates "$gates")
else
  echo '{% for m in messages %}{{ m.content }}{% endfor %}' >form.jinja  # the shipped model has none
  talks=("$model" --template form.jinja)
fi
serve=${serve/MODEL/"$(printf '%q ' "${talks[@]}") --port 0 --max-tokens 40"}
echo "$serve"
PATH=$prefix/bin:$PATH bash -ec "exec $serve" 2>log &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for ((i = 0; i < 600; ++i)); do
  port=$(grep -oE 'listening on http://[^ ]+:[0-9]+' log | grep -oE '[0-9]+$') && break
  kill -0 $server 2>/dev/null || { cat log >&2; exit 1; }
  sleep 0.1
done
echo "$ask"
answer=$(bash -ec "${ask//8080/$port}")
echo "$answer"
[[ $answer == *'"role":"assistant"'* && $answer == *'"content":"'[^\"]* ]] ||
  { echo "expected an assistant's answer" >&2; cat log >&2; exit 1; }
kill $server
wait $server || (($? == 130))  # as the command leaves where it is interrupted
