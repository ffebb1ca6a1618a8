#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Do the tests notice? mutate.py COUNT [--seed N] [--folder NAME] [--headers] [--report]

Changes one operator or number of src/prune, src/cache or src/nn at a time (with --headers of include/pith/ too), in a
copy of the sources, builds the tests that are nearest, and runs them until one fails: the mutant is killed. Which
mutants there are, and their order, follows from the sources and the seed; results are lines of JSON in
build/mutation/results.jsonl, and a run goes on where the last one stopped. What survives has to be explained or killed.
--report only sums up."""
import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "mutation"
BUILD = PLACE / "sources" / "build" / "release"
RESULTS = PLACE / "results.jsonl"

# The tests that a folder's mutants are run against, the quickest first.
NEAREST = {
    "prune": ["properties_scorers_test", "properties_budgets_test", "properties_reclaim_test", "properties_snapkv_test",
              "properties_spec_test", "properties_worth_test", "properties_think_test", "properties_query_scorers_test",
              "properties_replay_test", "properties_narrow_test", "properties_eviction_test", "properties_laws_test"],
    "cache": ["cache_lane_test", "cache_row_test", "cache_journal_test", "properties_memory_test",
              "properties_rewind_test", "properties_laws_test"],
    "nn": ["nn_config_test", "nn_mlp_test", "nn_rotation_test", "properties_gate_lane_test", "reference_test",
           "properties_laws_test"],
}
# What the nearest let live meets these as well, and then what is nearest to the other folders.
FURTHER = ["properties_methods_test", "properties_policies_test", "properties_state_test", "properties_anchors_test",
           "properties_heads_test", "properties_dms_test", "properties_rows_test", "properties_chunks_test",
           "properties_batch_test", "session_test", "golden_test", "checkpoint_test", "saved_test", "loader_test"]
SWAPS = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ", " + ": " - ",
         " - ": " + ", " * ": " / ", " && ": " || ", " || ": " && ", "std::max": "std::min", "std::min": "std::max",
         "true": "false", "false": "true", "++": "--", " += ": " -= ", " -= ": " += "}
SITES = re.compile("|".join(re.escape(one) for one in sorted(SWAPS, key=len, reverse=True)) + r"|(?<![\w.])\d+(?![\w.])")


def code_of(line):
    """The line with comments and texts blanked, as long as before."""
    line = re.sub(r'"(\\.|[^"\\])*"', lambda m: " " * len(m[0]), line)
    return re.sub(r"//.*", lambda m: " " * len(m[0]), line)


def mutants(names, headers):
    folders = [ROOT / "src" / name for name in names]
    if headers:
        folders += [ROOT / "include" / "pith" / name for name in names]
    for folder in folders:
        for path in sorted(folder.rglob("*.[ch]pp")):
            for number, line in enumerate(path.read_text().splitlines()):
                if re.match(r"\s*(#|//|template|static_assert|assert|using)", line):
                    continue
                for site in SITES.finditer(code_of(line)):
                    was = site[0]
                    becomes = SWAPS.get(was) or str(int(was) + 1)
                    yield {"file": str(path.relative_to(ROOT)), "line": number + 1, "column": site.start(), "was": was,
                           "becomes": becomes}


def key(mutant):
    return f"{mutant['file']}:{mutant['line']}:{mutant['column']}: {mutant['was'].strip()} -> {mutant['becomes'].strip()}"


def run(command, seconds):
    """The exit status; none where it took too long."""
    try:
        return subprocess.run(command, timeout=seconds, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return None


def prepare():
    """A copy of the sources that may be changed, and its build."""
    copy = PLACE / "sources"
    copy.mkdir(parents=True, exist_ok=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        source, target = ROOT / name, copy / name
        if not source.is_file():
            continue
        # What is the same keeps its time, so that it is not built again.
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    # As any release is built, so that ccache knows all that is no mutant.
    subprocess.run(["cmake", "--preset", "release", "--log-level=WARNING"], cwd=copy, check=True,
                   stdout=subprocess.DEVNULL)
    return copy


def targets_of(mutant):
    near = NEAREST[next(part for part in mutant["file"].split("/") if part in NEAREST)]
    return list(dict.fromkeys([*near, *FURTHER, *(target for targets in NEAREST.values() for target in targets)]))


def build(targets):
    return run(["ninja", "-C", BUILD, "-j1", *targets], 3600) == 0


def passes(target):
    return run([BUILD / "bin" / target, "--gtest_brief=1", "--gtest_fail_fast"], 300) == 0


def trust(target, trusted):
    """A test that fails as it is would kill everything."""
    if target in trusted:
        return
    if not build([target]) or not passes(target):
        sys.exit(f"{target} does not pass as it is")
    trusted.add(target)


def judge(copy, mutant):
    path = copy / mutant["file"]
    text = path.read_text()
    lines = text.split("\n")
    line, at = lines[mutant["line"] - 1], mutant["column"]
    lines[mutant["line"] - 1] = line[:at] + mutant["becomes"] + line[at + len(mutant["was"]):]
    path.write_text("\n".join(lines))
    try:
        if not build(["pith"]):
            return "does not compile", None
        for target in targets_of(mutant):
            if not build([target]):
                return "does not compile", None
            if not passes(target):
                return "killed", target
        return "survived", None
    finally:
        path.write_text(text)


def done():
    if not RESULTS.exists():
        return {}
    return {one["mutant"]: one for one in map(json.loads, RESULTS.read_text().splitlines())}


def report():
    counts = {}
    for one in done().values():
        counts[one["outcome"]] = counts.get(one["outcome"], 0) + 1
        if one["outcome"] == "survived":
            print("survived:", one["mutant"], "|", one["text"])
    judged = counts.get("killed", 0) + counts.get("survived", 0)
    share = f", {counts.get('killed', 0) / judged:.0%} killed" if judged else ""
    print(", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) + share)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="mutants to judge beside those that were")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", choices=sorted(NEAREST), help="of this one alone")
    parser.add_argument("--headers", action="store_true")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        return report()
    everything = list(mutants([options.folder] if options.folder else sorted(NEAREST), options.headers))
    random.Random(options.seed).shuffle(everything)
    PLACE.mkdir(parents=True, exist_ok=True)
    copy, known = prepare(), done()
    if not build(["pith"]):
        sys.exit("the sources do not build as they are")
    left = [one for one in everything if key(one) not in known][:options.count]
    print(f"{len(everything)} mutants; {len(known)} were judged before")
    trusted = set()
    for mutant in left:
        for target in targets_of(mutant):
            trust(target, trusted)
        began = time.monotonic()
        outcome, by = judge(copy, mutant)
        text = (ROOT / mutant["file"]).read_text().splitlines()[mutant["line"] - 1].strip()
        with open(RESULTS, "a") as file:
            file.write(json.dumps({"mutant": key(mutant), "outcome": outcome, "by": by, "text": text,
                                   "seconds": round(time.monotonic() - began)}) + "\n")
        print(f"{outcome}: {key(mutant)}" + (f" by {by}" if by else ""), flush=True)
    report()


if __name__ == "__main__":
    os.nice(10)
    main()
