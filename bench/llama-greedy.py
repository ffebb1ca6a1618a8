#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What llama.cpp and pith go on with, greedily, from the same GGUF file. Needs numpy.

    LLAMA_CPP=FOLDER bench/llama-greedy.py MODEL.gguf [-n TOKENS] [--reference MODEL] PROMPT...

A prompt is a file. Where the two part, the table tells how far apart the logits of the two choices are in pith, which is as much
as either must be off for the other to win, and, with the unquantised model as --reference, the divergence of pith's
prediction at that step from what that one predicts, and the token which that one takes.
"""
import argparse
import json
import os
import re
import subprocess
import tempfile

import numpy as np

PITH = os.environ.get("PITH", "build/release/bin/pith")


def output(*words):
    return subprocess.run(words, check=True, capture_output=True).stdout.decode("utf-8", "replace")


def tokens_of(model, text, *options):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        return json.loads(output(PITH, "tokenize", "-m", model, "-f", file.name, "--json", *options))["tokens"]


def text_of(model, tokens):
    words = (PITH, "detokenize", "-m", model, "-p", json.dumps(tokens), "--with-specials", "--json")
    return json.loads(output(*words))["text"]


def last_logits(model, tokens, prompt):
    """Log-probabilities after `tokens`, the first `prompt` of which are fed together and the others one by one."""
    with tempfile.TemporaryDirectory() as folder:
        ids, logits = os.path.join(folder, "ids.json"), os.path.join(folder, "logits.f32")
        with open(ids, "w") as file:
            json.dump(tokens, file)
        output(PITH, "eval", "-m", model, "--tokens", ids, "--prompt-tokens", str(prompt), "--logits", logits, "--json")
        last = np.fromfile(logits, np.float32).reshape(len(tokens), -1)[-1].astype(np.float64)
    return last - last.max() - np.log(np.exp(last - last.max()).sum())


def compare(model, reference, prompt, count):
    """What the table tells of a prompt."""
    run = json.loads(output(PITH, "run", "-m", model, "-f", prompt, "-n", str(count), "--temp", "0", "-q", "--json"))
    mine = run["tokens"]
    other = output(os.path.join(os.environ.get("LLAMA_CPP", ""), "llama-completion"), "-m", model, "-f", prompt, "-n", str(count),
                   "--temp", "0", "-no-cnv", "--no-display-prompt", "--simple-io", "-t", "2")
    other = re.sub(r"( \[end of text\]\n*|\n)$", "", other)
    same = 0
    while same < len(mine) and other.startswith(text_of(model, mine[:same + 1])):
        same += 1
    if same == len(mine):
        return f"all {same} | | |" + (" |" if reference else "")
    with open(prompt) as file:
        start = tokens_of(model, file.read().removesuffix("\n"))  # as both read a file
    before = start + mine[:same]
    rest = other[len(text_of(model, mine[:same])) if same else 0:]
    theirs = tokens_of(model, rest, "--specials", "parse_only")[0] if rest else None
    found = last_logits(model, before, len(start))
    pair = repr(text_of(model, mine[same:same + 1])) + ", " + (repr(text_of(model, [theirs])) if rest else "the end")
    cells = f"{same} | {pair} | {found[mine[same]] - found[theirs]:.3f} |" if rest else f"{same} | {pair} | |"
    if reference:
        truth = last_logits(reference, before, len(start))
        cells += f" {(np.exp(truth) * (truth - found)).sum():.4f}, {text_of(model, [int(truth.argmax())])!r} |"
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--reference")
    args = parser.parse_args()
    print("| prompt | same tokens | then pith, llama.cpp | apart, logits |" +
          (" KL from the reference, its choice |" if args.reference else ""))
    print("|---|---|---|---|" + ("---|" if args.reference else ""))
    for prompt in args.prompts:
        print(f"| {os.path.basename(prompt)} | {compare(args.model, args.reference, prompt, args.n)}", flush=True)


if __name__ == "__main__":
    main()
