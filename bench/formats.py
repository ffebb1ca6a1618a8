#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each format of weights costs and is worth, as tables in Markdown. Needs numpy.

    bench/formats.py quality MODEL TEXT     every format and mixture of MODEL (unquantised) against itself: bits per weight,
                                            divergence of the next token and how often the likeliest stays the same, in the
                                            second half of each window; with LLAMA_CPP, the folder of llama.cpp's programs,
                                            beside llama-perplexity's figures for the same files and tokens
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
LLAMA_CPP = os.environ.get("LLAMA_CPP")
WINDOWS, WINDOW = 4, 512                    # tokens of the text, from its beginning
JUDGED = slice(WINDOW // 2, WINDOW - 1)     # of a window: what llama-perplexity judges


def pith(*arguments):
    return subprocess.run([PITH, *arguments], check=True, capture_output=True, text=True).stdout


def choices(command, flag):
    """What --help says that a flag takes."""
    words = " ".join(pith(command, "--help").split())
    return re.search(flag + r" [A-Z]+ .*?: (\w+(?:, \w+)+)", words).group(1).split(", ")


def log_probabilities(path):
    logits = np.fromfile(path, np.float32).reshape(WINDOW, -1)[JUDGED].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


class LlamaCpp:
    """llama-perplexity beside the table: further columns of it."""

    columns = " llama.cpp: mean KL | same likeliest |"

    def __init__(self, folder, model, text):
        self.base, whole = os.path.join(folder, "base.kld"), os.path.join(folder, "f32.gguf")
        self.text = os.path.join(folder, "text.txt")
        with open(text) as source, open(self.text, "w") as few:
            few.write(source.read(8 * WINDOWS * WINDOW))
        pith("quantize", "-m", model, "-o", whole, "--format", "f32")
        self._run(whole, "-f", self.text)
        os.remove(whole)

    def _run(self, file, *arguments):
        words = [os.path.join(LLAMA_CPP, "llama-perplexity"), "-m", file, "-c", str(WINDOW), "--chunks", str(WINDOWS),
                 "--kl-divergence-base", self.base, *arguments]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        return done.stdout + done.stderr

    def cells(self, file):
        said = self._run(file, "--kl-divergence")
        mean = re.search(r"Mean +KLD: +(-?[\d.]+)", said).group(1)
        same = re.search(r"Same top p: +([\d.]+)", said).group(1)
        return f" {float(mean):.4f} | {float(same):.1f} % |"


def quality(model, text):
    with tempfile.TemporaryDirectory() as folder:
        peer = LlamaCpp(folder, model, text) if LLAMA_CPP else None
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
                yield log_probabilities(out)

        reference = list(evaluate(model))
        numbers = json.loads(pith("inspect", "-m", model, "--json"))["parameters"]
        print("| format | bits per weight | mean KL | 99th percentile | same likeliest |" + (peer.columns if peer else ""))
        print("|---|---|---|---|---|" + ("---|---|" if peer else ""))
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
                  f"| {100 * alike:.1f} % |" + (peer.cells(file) if peer else ""), flush=True)


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
