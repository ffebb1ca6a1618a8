#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pith beside llama.cpp and its kin on the same GGUF file: prefill and decoding by depth, by turns.

    bench/peers.py --build FOLDER                  llama.cpp's llama-bench, from the source package of llama-cpp-python
    bench/peers.py MODEL.gguf --peer llama.cpp=FOLDER/bin/llama-bench [--peer NAME=LLAMA_BENCH ...] --out found.jsonl
    bench/peers.py --report found.jsonl            a table: medians, spreads, ratios
    bench/peers.py --plot OUT.svg found.jsonl

In each round each depth and test is measured by one program after the other, so that a slow minute falls on all of them; a peer
is asked twice, with flash attention and without, and the better counts. Ratios are of the same round. A run that was ended goes on
where it was. Prefill is that of --prompt tokens behind the depth.
"""
import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile

from svg import picture, text, ticks

ROOT = pathlib.Path(__file__).resolve().parents[1]
COLOURS = ["#0b4a83", "#c2570c", "#5b7f2b", "#7a4a9c"]
OURS = "pith"


def run(command, **how):
    done = subprocess.run([str(word) for word in command], text=True, **how)
    if done.returncode != 0:
        sys.exit(f"peers: {' '.join(map(str, command))}: left with {done.returncode}\n{done.stderr or ''}")
    return done.stdout


def build(folder):
    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:",
         "--dest", folder, "llama-cpp-python"])
    archive = max(folder.glob("llama_cpp_python-*.tar.gz"), key=os.path.getmtime)
    with tarfile.open(archive) as sources:
        sources.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    run(["cmake", "-S", source, "-B", folder, "-G", "Ninja", "-D", "CMAKE_BUILD_TYPE=Release", "-D", "BUILD_SHARED_LIBS=OFF",
         "-D", "LLAMA_CURL=OFF", "-D", "LLAMA_BUILD_TESTS=OFF", "-D", "LLAMA_BUILD_EXAMPLES=OFF"], stdout=subprocess.DEVNULL)
    run(["cmake", "--build", folder, "--target", "llama-bench"])
    print(folder / "bin" / "llama-bench")


def ask(who, program, test, depth, args):
    """Tokens/s."""
    tokens = ["-p", args.prompt, "-n", 0] if test == "prefill" else ["-p", 0, "-n", args.tokens]
    common = ["-m", args.model, "-t", args.threads, "-d", depth, *tokens, "-r", 1]
    if who == OURS:
        found = json.loads(run([program, "bench", *common, "--kv", args.kv, "--json"], capture_output=True))
        return next(row["tokens_per_s"] for row in found["rows"] if row["test"] == test)
    return max(json.loads(run([program, *common, "-ctk", args.kv, "-ctv", args.kv, "-fa", flash, "-o", "json"],
                              capture_output=True))[0]["avg_ts"]
               for flash in (["on"] if args.kv != "f16" else ["on", "off"]))  # without, values are never in blocks


def measure(args):
    programs = {OURS: args.pith}
    for peer in args.peer:
        name, _, path = peer.partition("=")
        if not path or name in programs:
            sys.exit(f"peers: --peer: expected NAME=LLAMA_BENCH, each name once, found '{peer}'")
        programs[name] = path
    done = {(one["model"], one["kv"], one["threads"], one["round"], one["test"], one["depth"], one["who"])
            for one in (read(args.out) if os.path.exists(args.out) else [])}
    model = os.path.basename(args.model)
    with open(args.out, "a", encoding="utf-8") as out:
        for number in range(args.rounds):
            for test in ("decode", "prefill"):
                for depth in args.depths:
                    for who, program in programs.items():
                        if (model, args.kv, args.threads, number, test, depth, who) in done:
                            continue
                        line = {"model": model, "kv": args.kv, "threads": args.threads, "round": number, "test": test, "depth": depth,
                                "tokens": args.prompt if test == "prefill" else args.tokens, "who": who,
                                "tokens_per_s": ask(who, program, test, depth, args)}
                        print(json.dumps(line), file=out, flush=True)
                        print(f"{test} {depth} {who}: {line['tokens_per_s']:.1f}", file=sys.stderr)


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("}\n")]  # what was cut off is made again


def by_place(path):
    """{(model, kv, threads): {(test, tokens, depth): {who: {round: tokens/s}}}}"""
    found = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(dict)))
    for one in read(path):
        places = found[one["model"], one["kv"], one["threads"]]
        places[one["test"], one["tokens"], one["depth"]][one["who"]][one["round"]] = one["tokens_per_s"]
    return found


def report(path):
    def cell(speeds):
        return f"{statistics.median(speeds):.4g} ({min(speeds):.4g} to {max(speeds):.4g})"

    for (model, kv, threads), places in by_place(path).items():
        peers = sorted({who for whos in places.values() for who in whos} - {OURS})
        print(f"\n{model}, {kv} cache, {threads} threads, tokens/s, medians (min to max):\n")
        print("| test | depth | rounds | pith |" + "".join(f" {peer} | ratio |" for peer in peers))
        print("|---" * (4 + 2 * len(peers)) + "|")
        for (test, tokens, depth), whos in sorted(places.items()):
            ours = whos.get(OURS, {})
            if not ours:
                continue
            line = f"| {test} of {tokens} | {depth:,} | {len(ours)} | {cell(ours.values())} |"
            for peer in peers:
                both = [ours[number] / speed for number, speed in whos[peer].items() if number in ours]
                line += f" {cell(whos[peer].values())} | {cell(both)} |" if both else "  |  |"
            print(line)


def plot(path, source):
    width, height, left, right, top, bottom = 430, 300, 58, 20, 56, 46
    body, panels = [], 0
    for (model, kv, threads), places in by_place(source).items():
        for test, tokens in sorted({(test, tokens) for test, tokens, _ in places}):
            at, above = panels % 2 * width, panels // 2 * height
            panels += 1
            lines = collections.defaultdict(list)
            for (one, n, depth), whos in sorted(places.items()):
                if (one, n) == (test, tokens):
                    for who, speeds in whos.items():
                        lines[who].append((depth, list(speeds.values())))
            deepest = max(depth for line in lines.values() for depth, _ in line)
            most = 1.08 * max(speed for line in lines.values() for _, speeds in line for speed in speeds)

            def x(depth):
                return at + left + depth / max(deepest, 1) * (width - left - right)

            def y(speed):
                return above + height - bottom - speed / most * (height - top - bottom)

            body += [text(at + left, above + 20, f"{model}, {kv} cache, {threads} threads", "start", font_weight="bold"),
                     text(at + left, above + 38, f"{test} of {tokens} tokens, tokens/s", "start", fill="#667"),
                     text((x(0) + x(deepest)) / 2, above + height - 8, "tokens of context", fill="#667")]
            for tick in ticks(most):
                body += [f'<line x1="{x(0):.1f}" x2="{x(deepest):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#dde"/>',
                         text(x(0) - 8, y(tick) + 4, f"{tick:g}", "end")]
            for depth in sorted({depth for line in lines.values() for depth, _ in line}):
                if depth == 0 or x(depth) - x(0) > 40:
                    body.append(text(x(depth), y(0) + 18, f"{depth:,}"))
            for i, (who, line) in enumerate(sorted(lines.items(), key=lambda one: one[0] != OURS)):
                colour = COLOURS[i % len(COLOURS)]
                points = " ".join(f"{x(depth):.1f},{y(statistics.median(speeds)):.1f}" for depth, speeds in line)
                body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
                for depth, speeds in line:
                    body += [f'<line x1="{x(depth):.1f}" x2="{x(depth):.1f}" y1="{y(min(speeds)):.1f}" y2="{y(max(speeds)):.1f}" '
                             f'stroke="{colour}"/>',
                             f'<circle cx="{x(depth):.1f}" cy="{y(statistics.median(speeds)):.1f}" r="3.5" fill="{colour}"/>']
                body.append(text(x(deepest), above + top + 14 * i, who, "end", fill=colour))
    with open(path, "w", encoding="utf-8") as out:
        out.write(picture(min(panels, 2) * width, (panels + 1) // 2 * height, body))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="GGUF")
    parser.add_argument("--build", metavar="FOLDER", help="fetches llama.cpp and builds its llama-bench there")
    parser.add_argument("--report", metavar="FILE", help="of what was found")
    parser.add_argument("--plot", nargs=2, metavar=("SVG", "FILE"), help="of what was found")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=LLAMA_BENCH")
    parser.add_argument("--pith", default=ROOT / "build/release/bin/pith", help="the command")
    parser.add_argument("--out", default="peers.jsonl", help="what is found is added to it")
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 1024, 4096, 8192])
    parser.add_argument("--prompt", type=int, default=512, help="tokens of prefill")
    parser.add_argument("--tokens", type=int, default=32, help="tokens that are decoded")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kv", default="f16", help="format of the cache")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.build:
        build(args.build)
    elif args.report:
        report(args.report)
    elif args.plot:
        plot(*args.plot)
    elif args.model and args.peer:
        measure(args)
    else:
        parser.error("expected MODEL and at least one --peer, or --build, --report or --plot")


if __name__ == "__main__":
    main()
