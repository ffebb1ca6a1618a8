#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh LIBRARY INCLUDE: a shared library of pith exports what public headers declare and nothing else.
set -euo pipefail
library=$1 headers=$(cat $(find "$2" -name '*.hpp'))
failed=0 count=0
while read -r symbol; do
  count=$((count + 1))
  # The name below the namespaces: of the class that a member belongs to, else of the function.
  name=${symbol%%(*}
  while [[ $name =~ ^(pith|tensor|cache|nn|prune|ops)::(.*) ]]; do name=${BASH_REMATCH[2]}; done
  name=${name%%[:<\[]*}
  [[ $symbol == pith::* ]] && grep -qw -- "$name" <<<"$headers" && continue
  echo "exported, but declared by no public header: $symbol"
  failed=1
done < <(nm -DC --defined-only "$library" | awk '$2 == "T" || $2 == "D" || $2 == "B" || $2 == "R"' | cut -d' ' -f3- |
  grep -v '^_\(init\|fini\)$')
echo "$count symbols"
((count > 100)) || { echo "too few: hidden what should be seen"; failed=1; }
if nm -DC --defined-only "$library" | awk '$2 == "T"' | cut -d' ' -f3- | sed 's/(.*//' |
  grep -E '^pith::(text|kernels|trace|files|measure)::|^pith::(Checkpoint|Loader)\b|::(Impl|Crew)::'; then
  failed=1
fi
exit $failed
