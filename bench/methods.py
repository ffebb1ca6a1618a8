#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every method that `pith policies` lists, and KVzip, with the same part of a prompt kept, on the same documents, beside the
dense model and rows drawn by lot. This writes the documents and what is asked of them as a plan, lets bench_methods work on it
(bench/methods.cpp), and makes tables and pictures of what that finds.

    bench/methods.py plan.json -m smollm2.gguf --gates gates.safetensors --text a.txt b.txt --length 2048 --documents 6
    build/release/bin/bench_methods plan.json found.jsonl                  # again and again, until it is done
    build/release/bin/bench_methods plan.json speed.jsonl speed 100        # where nothing else runs, again and again
    bench/methods.py --report plan.json found.jsonl [speed.jsonl ...] > tables.md
    bench/methods.py --plot OUT.svg plan.json found.jsonl

A document is a text of a book in which 13 facts and a list of words stand. Its prompts are that text, and that text with one
question at its end; at a prompt's end a method has forgotten what it forgets, and goes on forgetting, with as many rows, in what is asked:

    text      the book's next tokens: nats a token above the dense model's, divergence (KL, nats a token) from what that predicts
    recall N  a fact that stands among N of its kind: all tokens of the answer the likeliest, of those that the dense model has right;
              "asked": the question is the prompt's end, so that a method has seen it when it forgets; else it comes after
    copy      tokens of the list, which is repeated
    lambada   last words of passages, which are documents of their own; what precedes the word by 8 tokens is the prompt
"""
import argparse
import collections
import json
import math
import os
import random
import re
import statistics

import methods_plot
import quality

FOLLOWING = 129       # tokens after a text's prompt; the first does not count
WORDS = 30            # of a list
KEYS = (1, 4, 8)      # facts of a kind
TAIL = 64             # tokens of a prompt, and a question, that each method reads for itself
BEFORE_WORD = 8       # tokens between the end of a passage's prompt and its last word
BISECTIONS = 7        # to find a gate's tau
NOT_SAID = {"dms": "needs a checkpoint that was taught to forget",
            "worth_gate": "needs gates on a token's own state, which nobody has trained for the model",
            "protect": "makes others of other methods; duo is its like"}


def options(name, keep, n, layers, heads):
    """How a method is told to keep `keep` of n tokens, as a plan's trial; None: it cannot be told."""
    rows = max(12, round(keep * n))
    window, words, acts = min(32, rows // 4), None, "end"
    if name == "streaming":
        words, acts = f"sinks={quality.SINKS},recent={rows - quality.SINKS}", "pass"
    elif name == "h2o":  # half of them, as the paper has it
        words, acts = f"rows={rows},recent={rows // 2 - quality.SINKS}", "pass"
    elif name == "tova":
        words, acts = f"rows={rows}", "pass"
    elif name in ("lra", "lfa", "keydiff", "knorm"):
        words, acts = f"rows={rows},recent={window}", "pass"
    elif name == "rkv":
        words, acts = f"rows={rows},window={min(8, window)},slack={max(8, rows // 32)}", "pass"
    elif name in ("snapkv", "adakv", "pyramidkv", "criticalkv", "defensivekv", "layer_defensivekv"):
        words = f"rows={rows},window={window}"
    elif name in ("expected_attention", "leverage", "compactor", "curdkv"):
        words = f"rows={rows},recent={window}"
    elif name == "d2o":
        words = f"rows={rows},recent={min(64, rows // 4)}"
    elif name == "lagkv":
        words = f"rows={rows},lag={min(128, rows // 4)}"
    elif name == "fastkv":  # a fifth of the tokens goes on, as in the paper, or more where more rows are kept
        words, acts = f"rows={rows},window={min(8, window)},tokens={max(rows, round(0.2 * n))}", "whole"
    elif name == "pyramidinfer":
        share = pyramid_share(rows, n, layers, window)
        words, acts = share and f"share={share:.3f},window={window},least=0", "whole"
    elif name == "simlayerkv":
        words = f"recent={rows // 2}"
    elif name == "think":
        words = f"channels={keep},window={window}"
    elif name == "duo" and heads:  # so many heads whole, the others with half of the rows that all would get
        words = f"file={heads},share={keep / (2 - keep):.3f},sinks={quality.SINKS},recent={max(1, rows // 2 - quality.SINKS)}"
        acts = "pass"
    return words and {"name": name, "keep": keep, "policy": f"{name}({words})", "acts": acts}


def pyramid_share(rows, n, layers, window):
    """At which the tokens of all layers are `rows` on average."""
    def average(share):
        there, total = n, 0
        for layer in range(layers):
            total += there
            part = (1 - share) * (math.cos(math.pi * layer / layers) + 1) / 2 + share
            there = window + math.floor(max(0, there - window) * part)
        return total / layers

    low, high = 0.0, 1.0
    if average(low) > rows:
        return None
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if average(middle) > rows else (middle, high)
    return low


class Writer:
    """Of documents."""

    def __init__(self, pith, args):
        self.pith, self.rng = pith, random.Random(args.seed)
        self.first = pith.call([*pith.tokenizer[:-4], "--specials", "add_only", "--json", "-q"], "a")["tokens"][:-len(pith.tokens("a"))]
        self.books = []
        for path in args.text:
            with open(path, encoding="utf-8") as file:
                text = re.sub(r"\s+", " ", file.read()).strip()
            sentences = re.split(r"(?<=[.!?]) +", text)
            begin = len(sentences) // 4
            self.books.append(pith.each([" " + sentence for sentence in sentences[begin:begin + 6000]]))

    def document(self, number, length):
        rng, book = self.rng, self.books[number % len(self.books)]
        kinds = rng.sample(list(quality.FACTS), len(KEYS))
        names = rng.sample([f"{first} {last}" for first in quality.FIRST for last in quality.LAST], sum(KEYS))
        facts = []  # (number of its kind, kind, name, value)
        for kind, keys in zip(kinds, KEYS):
            for value in rng.sample(quality.FACTS[kind], keys):
                facts.append((keys, kind, names[len(facts)], value))
        stated = self.pith.each([f" The {k} of {n} is {v}." for _, k, n, v in facts])
        questions = self.pith.each([f" What is the {k} of {n}?" for _, k, n, _ in facts])
        answers = self.pith.each([f" The {k} of {n} is" for _, k, n, _ in facts])
        values = self.pith.each([f" {v}" for _, _, _, v in facts])
        words = rng.sample(sorted({v for some in quality.FACTS.values() for v in some if v.isalpha()}), WORDS)
        head, listed, again = self.pith.each([" Here is a list of words:", " " + ", ".join(words) + ".", " The list once more:"])
        # What stands between sentences, by its place.
        places = sorted(zip([rng.random() * 0.95 for _ in range(len(facts) + 1)], [*stated, head + listed]))
        prose, at = length - len(self.first) - sum(len(part) for _, part in places), rng.randrange(len(book) // 2)
        ids, used = list(self.first), 0
        while used < prose:
            while places and places[0][0] * prose <= used:
                ids += places.pop(0)[1]
            part = book[at][:prose - used]
            ids, used, at = ids + part, used + len(part), at + 1
        rest = book[at - 1][len(part):]
        while len(rest) < FOLLOWING:
            rest, at = rest + book[at], at + 1
        prefix, tail = ids[:-TAIL], ids[-TAIL:]

        def recall(i, asked):
            before = ([] if asked else questions[i]) + answers[i]
            return {"task": f"recall {facts[i][0]}" + (", asked" if asked else ""), "ids": before + values[i],
                    "answers": [[len(before), len(before) + len(values[i])]]}

        asks = [{"task": "text", "ids": rest[:FOLLOWING], "answers": []}, *(recall(i, False) for i in range(len(facts))),
                {"task": "copy", "ids": again + listed,
                 "answers": [[len(again) + i, len(again) + i + 1] for i in range(len(listed))]}]
        prompts = [{"tail": tail, "asks": asks}]
        for keys in KEYS:
            i = rng.choice([i for i, fact in enumerate(facts) if fact[0] == keys])
            prompts.append({"tail": tail + questions[i], "asks": [recall(i, True)]})
        return {"prefix": prefix, "prompts": prompts}

    def passages(self, path, count):
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line)["text"].rpartition(" ") for line in file]
        for start, _, word in self.rng.sample(lines, count):
            before, answer = self.first + self.pith.tokens(start), self.pith.tokens(" " + word)
            asked = before[-BEFORE_WORD:] + answer
            yield {"prefix": before[:-BEFORE_WORD - 24], "prompts": [{"tail": before[-BEFORE_WORD - 24:-BEFORE_WORD], "asks": [
                {"task": "lambada", "ids": asked, "answers": [[BEFORE_WORD, len(asked)]]}]}]}


def tau_for(pith, ids, keep):
    """The gate's strength at which it holds `keep` of the rows of a prompt."""
    low, high = -24.0, 24.0
    for _ in range(BISECTIONS):
        tau = (low + high) / 2
        found = pith.eval(ids, quality.gate(tau))
        lanes = [lane for layer in found["drop_at"] for lane in (layer if isinstance(layer[0], list) else [layer])]
        held = sum(lane.count(-1) for lane in lanes) / sum(map(len, lanes))
        low, high = (tau, high) if held > keep else (low, tau)
    return tau


def plan(args):
    pith = quality.Pith(args)
    tensors = pith.call([args.pith, "inspect", "-m", args.model, "--json"], "")["tensors"]
    layers = 1 + max(int(number) for one in tensors for number in re.findall(r"\.(\d+)\.", one["name"]))
    writer = Writer(pith, args)
    documents = [writer.document(i, args.length) for i in range(args.documents)]
    documents += writer.passages(args.lambada, args.passages) if args.lambada else []
    names, left_out = [], {}
    for policy in pith.call([args.pith, "policies", "--json"], "")["policies"]:
        name = policy["name"]
        if name in NOT_SAID:
            left_out[name] = NOT_SAID[name]
        elif not policy["combinator"] and name not in ("none", "gate"):
            names.append(name)
    ids = documents[0]["prefix"] + documents[0]["prompts"][0]["tail"]
    taus = {}
    if args.gates:
        taus = dict(zip(args.keep, args.taus or [round(tau_for(pith, ids, keep), 2) for keep in args.keep]))
    if not args.gates:
        left_out["gate"] = "the model does not have"
    asks_again = dict(zip(("all", "part"), pith.each(["  Repeat the previous context exactly:",
                                                      "  Repeat the part of the previous context exactly, starting with"])))
    for document in documents:
        n = len(document["prefix"]) + len(document["prompts"][0]["tail"])
        document["trials"] = []
        for keep in args.keep:
            rows = max(12, round(keep * n))
            some = [{"name": "random", "keep": keep, "policy": f"random(rows={rows})", "acts": "end",
                     "random": {"rows": rows, "recent": min(32, rows // 4)}}]
            if keep in taus:
                some.append({"name": "gate", "keep": keep, "policy": f"gate(tau={taus[keep]})", "acts": "pass"})
            for name in names:
                trial = options(name, keep, n, layers, args.heads)
                if trial:
                    some.append(trial)
                else:
                    left_out[name] = "has no scores of heads" if name == "duo" else f"cannot keep as little as {keep:.0%}"
            some.append({"name": "kvzip", "keep": keep, "policy": f"kvzip(share={keep})", "acts": "end",
                         "replay": {"share": keep, **asks_again}})
            document["trials"] += some
    with open(args.plan, "w", encoding="utf-8") as file:
        json.dump({"model": args.model, "gates": args.gates, "kv": args.kv, "threads": args.threads, "length": args.length,
                   "texts": [os.path.basename(path) for path in args.text], "left_out": left_out, "documents": documents}, file)


class Found:
    """Of one method and share, over the documents where it and the dense model are done."""

    def __init__(self, lines, dense):
        self.refused = next((line["refused"] for line in lines if "refused" in line), None)
        lines = [line for line in lines if "asks" in line]
        self.documents = len(lines)
        long = [line for line in lines if line["asks"][0]["task"] == "text"]
        self.bytes = sum(line["bytes"] for line in long) / max(1, len(long))
        self.right, self.of, self.nats = collections.Counter(), collections.Counter(), collections.Counter()
        self.nll = self.kl = texts = 0
        for line in lines:
            for ask, truth in zip(line["asks"], dense[line["document"]]["asks"]):
                task = ask["task"]
                if task == "text":
                    self.nll, self.kl, texts = self.nll + ask["nll"] - truth["nll"], self.kl + ask["kl"], texts + 1
                else:
                    for right, known, nats, least in zip(ask["right"], truth["right"], ask["nats"], truth["nats"]):
                        self.right[task] += right and known
                        self.of[task] += known
                        self.nats[task] += nats - least
        self.nll, self.kl = self.nll / max(1, texts), self.kl / max(1, texts)

    def share(self, *tasks):
        return sum(self.right[task] for task in tasks) / max(1, sum(self.of[task] for task in tasks))


def read(path):
    """{(name, keep): Found}, the questions by task, and of these those that the dense model has right"""
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip().endswith("}")]
    dense = {line["document"]: line for line in lines if line["name"] == "dense"}
    some = collections.defaultdict(list)
    for line in lines:
        if line["name"] != "dense" and line["document"] in dense:
            some[line["name"], line["keep"]].append(line)
    asks = [ask for line in dense.values() for ask in line["asks"]]
    of = collections.Counter()
    known = collections.Counter()
    for ask in asks:
        of[ask["task"]] += len(ask.get("right", [0]))
        known[ask["task"]] += sum(ask.get("right", [1]))
    return {key: Found(value, dense) for key, value in some.items()}, of, known


RECALL = [f"recall {keys}" for keys in KEYS]
ASKED = [f"recall {keys}, asked" for keys in KEYS]


def title_of(planned):
    return f"{os.path.basename(planned['model'])}, prompts of {planned['length']:,} tokens, {planned['kv']} cache"


def report(paths):
    with open(paths[0], encoding="utf-8") as file:
        planned = json.load(file)
    found, of, known = read(paths[1])
    speeds = collections.defaultdict(list)
    for path in paths[2:]:
        with open(path, encoding="utf-8") as file:
            for one in map(json.loads, file):
                if "dense" in one:
                    speeds[one["name"], one["keep"]].append(one)
    tasks = [task for task in [*RECALL, *ASKED, "copy", "lambada"] if of[task]]
    print(f"\n### {title_of(planned)}\n")
    print("Questions that the dense model has right: " +
          ", ".join(f"{task} {known[task]} of {of[task]}" for task in tasks) + f"; texts: {of['text']}.")
    print("Left out: " + "; ".join(f"`{name}`, which {why}" for name, why in sorted(planned["left_out"].items())) + ".")
    for keep in sorted({keep for _, keep in found}, reverse=True):
        print(f"\n**{keep:.0%} kept**\n")
        columns = ["perplexity", "KL", *tasks, "bytes", *(["prefill", "decode"] if speeds else [])]
        print("| method |" + "".join(f" {column} |" for column in columns) + "\n" + "|---" * (len(columns) + 1) + "|")
        rows = [(name, one) for (name, k), one in found.items() if k == keep]
        for name, one in sorted(rows, key=lambda row: row[1].kl if row[1].documents else math.inf):
            if not one.documents:
                print(f"| {name} | refused: {one.refused} |")
                continue
            line = f"| {name} | {math.expm1(one.nll):+.1%} | {one.kl:.3f} |"
            line += "".join(f" {one.right[task]}/{one.of[task]} |" if one.of[task] else " – |" for task in tasks)
            if some := speeds.get((name, keep)):
                prefill, decode = ([run["dense"][part] / run[part] for run in some] for part in ("prefill_s", "decode_s"))
                line += f" {some[0]['bytes'] / some[0]['dense']['bytes']:.0%} | {statistics.median(prefill):.2f} | " \
                        f"{statistics.median(decode):.2f} |"
            else:
                line += f" {one.bytes:.0%} |" + ("  |  |" if speeds else "")
            print(line)
        missing = sorted({trial["name"] for document in planned["documents"] for trial in document["trials"]
                          if trial["keep"] == keep} - {name for name, _ in rows})
        if missing:
            print("\nNot done: " + ", ".join(missing) + ".")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", nargs="?", help="what is written")
    parser.add_argument("--report", nargs="+", metavar="FILE", help="a plan, what was found, and what speeds were found, of which the median counts")
    parser.add_argument("--plot", nargs=3, metavar="FILE", help="an SVG, a plan and what was found")
    parser.add_argument("-m", "--model")
    parser.add_argument("--gates", help="sidecar")
    parser.add_argument("--taus", type=float, nargs="+", help="of the gates, for each part that stays; else they are searched for")
    parser.add_argument("--heads", help="scores of `pith heads`, for duo")
    parser.add_argument("--pith", default="build/release/bin/pith", help="the command")
    parser.add_argument("--text", nargs="+", help="books, one after another")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a prompt")
    parser.add_argument("--documents", type=int, default=6)
    parser.add_argument("--lambada", help="lambada_test.jsonl")
    parser.add_argument("--passages", type=int, default=20, help="of LAMBADA")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.25, 0.5, 0.1], help="parts of the prompt that stay")
    parser.add_argument("--kv", default="f16")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-t", "--threads", type=int, default=1)
    args = parser.parse_args()
    if args.report:
        report(args.report)
    elif args.plot:
        out, planned, path = args.plot
        with open(planned, encoding="utf-8") as file:
            planned = json.load(file)
        methods_plot.draw(out, title_of(planned), read(path)[0], RECALL, ASKED)
    elif args.plan and args.model and args.text:
        plan(args)
    else:
        parser.error("expected a plan with -m and --text, or --report, or --plot")


if __name__ == "__main__":
    main()
