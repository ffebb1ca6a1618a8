#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each format of weights costs and is worth, as tables in Markdown. Needs numpy.

    bench/formats.py quality MODEL TEXT     every format and mixture of MODEL (unquantised) against itself: bits per weight,
                                            divergence of the next token and how often the likeliest stays the same
    bench/formats.py speed SHAPE [OPTIONS]  `pith bench --synthetic SHAPE OPTIONS` in every format of blocks: tokens/s, and
                                            their share of the bound
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

PITH = os.environ.get("PITH", "build/release/bin/pith")
WINDOWS, WINDOW = 2, 512  # tokens of the text, from its beginning


def pith(*arguments):
    return subprocess.run([PITH, *arguments], check=True, capture_output=True, text=True).stdout


def choices(command, flag):
    """What --help says that a flag takes."""
    words = " ".join(pith(command, "--help").split())
    return re.search(flag + r" [A-Z]+ .*?: (\w+(?:, \w+)+)", words).group(1).split(", ")


def log_probabilities(path, tokens):
    logits = np.fromfile(path, np.float32).reshape(tokens, -1).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def quality(model, text):
    with tempfile.TemporaryDirectory() as folder:
        file, out = os.path.join(folder, "model.gguf"), os.path.join(folder, "logits.f32")
        tokens = json.loads(pith("tokenize", "-m", model, "-f", text, "--json"))["tokens"][: WINDOWS * WINDOW]
        windows = []
        for at in range(0, WINDOWS * WINDOW, WINDOW):
            windows.append(os.path.join(folder, f"{at}.json"))
            with open(windows[-1], "w") as ids:
                json.dump(tokens[at : at + WINDOW], ids)

        def evaluate(path):
            for window in windows:
                pith("eval", "-m", path, "--tokens", window, "--logits", out)
                yield log_probabilities(out, WINDOW)

        reference = list(evaluate(model))
        numbers = json.loads(pith("inspect", "-m", model, "--json"))["parameters"]
        print("| format | bits per weight | mean KL | 99th percentile | same likeliest |\n|---|---|---|---|---|")
        ways = [("--format", name) for name in choices("quantize", "--format")]
        for flag, name in ways + [("--like", name) for name in choices("quantize", "--like")]:
            size = json.loads(pith("quantize", "-m", model, "-o", file, flag, name, "--json"))["tensors"]
            bits = 8 * sum(tensor["bytes"] for tensor in size) / numbers
            divergences, same = [], []
            for expected, found in zip(reference, evaluate(file)):
                divergences.append((np.exp(expected) * (expected - found)).sum(axis=1))
                same.append(expected.argmax(axis=1) == found.argmax(axis=1))
            divergence, alike = np.concatenate(divergences), np.concatenate(same).mean()
            print(f"| {name} | {bits:.2f} | {divergence.mean():.4f} | {np.quantile(divergence, 0.99):.3f} "
                  f"| {100 * alike:.1f} % |", flush=True)


def speed(shape, options):
    print("| format | MB read per token | tokens/s | of bound | plain read, GB/s |\n|---|---|---|---|---|")
    for name in choices("bench", "--format"):
        if name in ("f32", "f16", "bf16"):
            continue
        result = json.loads(pith("bench", "--synthetic", shape, "--format", name, *options, "--json"))
        row = next(row for row in result["rows"] if row["test"] == "decode")
        span = f"{row['tokens_per_s_min']:.0f} to {row['tokens_per_s_max']:.0f}"
        print(f"| {name} | {row['bytes_per_step'] / 1e6:.0f} | {row['tokens_per_s']:.0f} ({span}) "
              f"| {row['of_bound']:.2f} | {result['system']['read_bytes_per_s'] / 1e9:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "quality":
        quality(sys.argv[2], sys.argv[3])
    elif len(sys.argv) > 2 and sys.argv[1] == "speed":
        speed(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(__doc__)
