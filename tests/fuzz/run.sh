#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Searches for inputs that break what the fuzz targets promise: run.sh MINUTES [TARGET…]
#
# The minutes are shared by the targets, one after another; what each found so far stays in build/fuzz and is where the
# next search begins. Prints executions, edges that were covered, what is wrong, and how to meet it again. Searches are
# drawn from SEED, by default today's date. With KEEP=1 the fewest inputs that still cover it all become
# tests/fuzz/corpus, which every build replays. PRESET=search builds without sanitizers, for ten times as many.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

minutes=${1:?usage: run.sh MINUTES [TARGET…]}
shift
targets=("$@")
if ((${#targets[@]} == 0)); then
  for file in tests/fuzz/*.cpp; do targets+=("$(basename "$file" .cpp)"); done
fi

preset=${PRESET:-asan}
cmake --preset "$preset" --log-level=WARNING >/dev/null
cmake --build --preset "$preset" -- --quiet "${targets[@]/#/fuzz_}"

seconds=$((minutes * 60 / ${#targets[@]}))
seed=${SEED:-$(date +%Y%m%d)}
found=build/fuzz
# Minutes for one input, as the machine may be busy with something else; what takes so long takes for ever.
limits=(-timeout=120 -rss_limit_mb=3000)
export LSAN_OPTIONS=suppressions=$PWD/tests/support/leaks.txt:print_suppressions=0

failed=()
echo "fuzzing: $seconds s for each of ${#targets[@]} targets, seed $seed"
printf '%-14s %12s %8s %10s\n' target executions edges inputs
for target in "${targets[@]}"; do
  corpus=tests/fuzz/corpus/$target log=$found/$target.log
  mkdir -p "$corpus" "$found/$target"
  # Of random calls nearly every input passes some edge another number of times than all others: to keep and to weigh
  # them all takes longer than to run them.
  how=()
  case $target in session | generator | saved) how=(-use_counters=0 -entropic=0) ;; esac
  dictionary=()
  if [[ -f tests/fuzz/dictionaries/$target ]]; then dictionary=(-dict="tests/fuzz/dictionaries/$target"); fi
  status=0
  build/"$preset"/bin/fuzz_"$target" "$found/$target" "$corpus" "${limits[@]}" "${how[@]}" "${dictionary[@]}" \
    -print_funcs=0 -print_final_stats=1 -seed="$seed" -max_total_time="$seconds" \
    -artifact_prefix="$found/$target-" &>"$log" || status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
  edges=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2) || true
  printf '%-14s %12s %8s %10s\n' "$target" "${executions:-?}" "${edges:-?}" "$(find "$found/$target" -type f | wc -l)"
  if ((status != 0)); then failed+=("$target"); fi
done

if [[ ${KEEP:-} == 1 ]]; then
  for target in "${targets[@]}"; do
    corpus=tests/fuzz/corpus/$target smallest=$found/$target-smallest
    rm -rf "$smallest" && mkdir "$smallest"
    # Edges alone: how often each was passed would keep thousands.
    build/"$preset"/bin/fuzz_"$target" -set_cover_merge=1 -use_counters=0 "${limits[@]}" "$smallest" "$corpus" \
      "$found/$target" &>"$found/$target-merge.log"
    # What has a name there was put there by somebody, for a reason.
    find "$smallest" -type f -size -3k -exec cp -n {} "$corpus" \;
    echo "$target: $(find "$corpus" -type f | wc -l) inputs in the corpus"
  done
fi

if ((${#failed[@]} > 0)); then
  for target in "${failed[@]}"; do
    echo "fuzz_$target, the end of $found/$target.log:"
    tail -n 60 "$found/$target.log"
    # One that is not only long to wait for.
    sed -n 's/.*Test unit written to //p' "$found/$target.log" | grep -v -- '-slow-unit-' | while read -r input; do
      echo "again: base64 -d <<<$(base64 -w 0 "$input") >input && build/$preset/bin/fuzz_$target input"
    done || true
  done
  echo "fuzzing: ${failed[*]} failed; the input is in $found" >&2
  exit 1
fi
