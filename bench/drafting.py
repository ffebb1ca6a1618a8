#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What guessing ahead saves: `pith run` with and without --draft by turns, as a table in Markdown.

    bench/drafting.py MODEL [--draft 8] [--repetitions 5] [OPTIONS of pith run]

Four texts: a file under one name and another, which a small model goes on repeating; code that is to be repeated with a small
edit, which it may or may not do; a list to be repeated; and a story, where little repeats itself. Tokens must be the same either way. The likeliest token is chosen; figures are medians (smallest to largest).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

PITH = os.environ.get("PITH", "build/release/bin/pith")
TOKENS = 160

CODE = '''def read_settings(path):
    settings = {}
    with open(path) as lines:
        for line in lines:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            key, value = line.split("=", 1)
            settings[key.strip()] = value.strip()
    return settings


def write_settings(path, settings):
    with open(path, "w") as out:
        for key in sorted(settings):
            out.write(key + " = " + settings[key] + "\\n")
'''
LIST = "".join(f"- {name}: {number}\n" for name, number in zip(
    "apples pears plums figs grapes cherries melons lemons limes dates olives quinces".split(), range(12, 60, 4)))


def chat(text):
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


PROMPTS = {
    "code, once more": CODE + "\n# The same with another name:\n" + CODE.replace("settings", "options") +
                       "\n# The same with the first name again:\n",
    "code, edited": chat("Rename the function read_settings to load_settings and give me the whole file again:\n\n"
                         f"```python\n{CODE}```\n") + "```python\n",
    "a list, repeated": chat(f"Repeat this list:\n\n{LIST}"),
    "a story": chat("Tell me a story about a lighthouse and the two people who keep it."),
}


def run(model, prompt, draft, options):
    command = [PITH, "run", "-m", model, "-p", prompt, "--temp", "0", "-n", str(TOKENS), "--draft", str(draft), "--json"]
    return json.loads(subprocess.run(command + options, check=True, capture_output=True, text=True).stdout)


def speed(runs):
    rates = [run["decode_tokens_per_s"] for run in runs]
    return f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})", statistics.median(rates)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--draft", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments, options = parser.parse_known_args()
    print("| text | plain, tokens/s | guessing | ratio | guesses that were right |\n|---|---|---|---|---|")
    for name, prompt in PROMPTS.items():
        plain, guessing = [], []
        for _ in range(arguments.repetitions):
            plain.append(run(arguments.model, prompt, 0, options))
            guessing.append(run(arguments.model, prompt, arguments.draft, options))
        if any(other["tokens"] != plain[0]["tokens"] for other in plain + guessing):
            sys.exit(f"{name}: other tokens with guesses than without")
        (a, slow), (b, fast) = speed(plain), speed(guessing)
        last = guessing[-1]
        print(f"| {name} | {a} | {b} | {fast / slow:.2f} | {last['accepted']} of {last['drafted']} |", flush=True)


if __name__ == "__main__":
    main()
