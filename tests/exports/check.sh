#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh LIBRARY INCLUDE MAP: a shared library of pith exports what public headers declare and nothing else, and each
# function of pith.h with the version that MAP gives it.
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
  grep -v '^_\(init\|fini\)$\|^pith_.*@@')
echo "$count symbols"
((count > 100)) || { echo "too few: hidden what should be seen"; failed=1; }
if nm -DC --defined-only "$library" | awk '$2 == "T"' | cut -d' ' -f3- | sed 's/(.*//' |
  grep -E '^pith::(text|kernels|trace|files|measure|c)::|^pith::(Checkpoint|Loader)\b|::(Impl|Crew)::'; then
  failed=1
fi

# "name@@VERSION", one a line: as the library has them, and as the map says, of the functions that pith.h declares.
exported=$(nm -D --defined-only "$library" | awk '$3 ~ /^pith_/ { print $3 }' | sort)
mapped=$(awk '/^PITH_/ { version = $1 } /^ *pith_.*;/ { sub(";", ""); print $1 "@@" version }' "$3" | sort)
declared=$(grep -o '\bpith_[a-z_]*(' "$2/pith/pith.h" | tr -d '(' | grep -v '_$' | sort -u)
diff <(cat <<<"$mapped") <(cat <<<"$exported") || { echo "^ C symbols: the map's (<) and the library's (>)"; failed=1; }
diff <(sed 's/@@.*//' <<<"$mapped") <(cat <<<"$declared") || { echo "^ C functions: the map's (<) and pith.h's (>)"; failed=1; }
exit $failed
