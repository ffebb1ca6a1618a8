#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What forgetting costs: perplexity, recall of planted facts, LAMBADA and HellaSwag of any model and gates, beside the dense
model and methods that hold as much. Everything is what `pith eval` really does, with its eviction; nothing but Python is needed.

    bench/quality.py -m smollm2.gguf --gates gates.safetensors --taus -6 -1 4 --text test.txt book.txt --out tables.json
"""

import argparse
import array
import bz2
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile

SINKS = 4
FAR = 256    # tokens back from which on a repeat is from afar
FIRST = "Adam Agnes Arthur Clara Daniel Edith Felix Grace Helen Hugh Julia Laura Martin Nora Oscar Rachel Silas Walter".split()
LAST = "Abbot Barlow Carver Drake Ellis Finch Gray Hale Kemp Lamb Marsh North Parker Reed Shaw Thorne Vane Webb".split()
FACTS = {
    "home": "London Paris Rome Vienna Berlin Madrid Oxford Boston Dublin Venice Prague Cairo".split(),
    "trade": "baker doctor farmer lawyer miller painter pilot poet sailor soldier tailor teacher".split(),
    "colour": "red blue green yellow black white purple orange brown pink".split(),
    "number": [str(n) for n in range(100, 1000)],
}


class Pith:
    """The command with a model and a cache format."""

    def __init__(self, args):
        self.words = [args.pith, "eval", "-m", args.model, "--kv", args.kv, "-t", str(args.threads), "--json", "-q", "--tokens", "-"]
        self.tokenizer = [args.pith, "tokenize", "-m", args.model, "--specials", "plain", "--json", "-q"]
        self.tracer = [args.pith, "trace", "--eval", "-m", args.model, "--kv", args.kv, "-t", str(args.threads), "--json", "-q", "-f", "-"]
        self.gates = args.gates

    @staticmethod
    def call(words, text):
        done = subprocess.run(words, input=text, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(words)}: exit status {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def tokens(self, text):
        return self.call(self.tokenizer, text)["tokens"]

    def each(self, lines):
        """The tokens of texts of one line each."""
        return self.call([*self.tokenizer, "--lines", "-f", "-"], "\n".join(lines) + "\n")["tokens"]

    def text(self, ids):
        return self.call([*self.tokenizer[:1], "detokenize", *self.tokenizer[2:4], "--json", "-q"], json.dumps(ids))["text"]

    def gates_for(self, method):
        return ["--gates", self.gates] if method.tau is not None else []

    def eval(self, ids, method, *more):
        return self.call([*self.words, *self.gates_for(method), *method.words, *more], json.dumps(ids))

    def trace(self, text, method):
        return self.call([*self.tracer, *self.gates_for(method), *method.words], text)

    def likeliest(self, ids, method, places):
        """The likeliest token after each of these places of `ids`."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "logits")
            found = self.eval(ids, method, "--logits", path)
            best, size = {}, os.path.getsize(path) // len(ids)
            with open(path, "rb") as file:
                for place in places:
                    file.seek(place * size)
                    row = array.array("f", file.read(size))
                    best[place] = row.index(max(row))
        return best, found["kept"]


class Method:
    """A name for tables and the words that make `pith eval` forget so; tau: of the gates, where they are used."""

    def __init__(self, name, words, tau=None):
        self.name, self.words, self.tau = name, words, tau


DENSE = Method("dense", ["--policy", "none"])


def gate(tau):
    return Method(f"gates, tau {tau:g}", ["--policy", f"gate(tau={tau})"], tau)


def streaming(rows):
    return Method("sinks + window", ["--policy", f"streaming(sinks={SINKS},recent={max(1, rows - SINKS)})"])


def h2o(rows, chunk):
    return Method("H2O", ["--policy", f"h2o(rows={rows},recent={rows // 2})", "-b", str(chunk)])


def rows_for(length, kept):
    """Rows of a cache that is always full which see the fraction `kept` of all pairs of a text."""
    pairs = length * (length + 1) / 2
    return min(range(1, length + 1), key=lambda rows: abs((rows * (rows + 1) / 2 + (length - rows) * rows) / pairs - kept))


def spread(ids, length, count):
    """`count` windows, evenly over a text."""
    last = len(ids) - length
    if last < 0:
        sys.exit(f"a text of {len(ids)} tokens: expected at least {length}")
    starts = sorted({round(i * last / max(1, count - 1)) for i in range(count)})
    return [ids[start:start + length] for start in starts]


class Sum:
    """Nats and kept pairs over windows."""

    def __init__(self):
        self.nll = self.tokens = self.kept = self.windows = 0

    def add(self, found, before=None):
        """before: of the window's beginning alone, whose tokens do not count."""
        first = (before["nll"] * (before["tokens"] - 1), before["tokens"] - 1) if before else (0, 0)
        self.nll += found["nll"] * (found["tokens"] - 1) - first[0]
        self.tokens += found["tokens"] - 1 - first[1]
        self.kept += found["kept"]
        self.windows += 1

    def row(self, name, dense=None):
        perplexity = math.exp(self.nll / self.tokens)
        return {"name": name, "kept": self.kept / self.windows, "perplexity": perplexity,
                "cost": perplexity / dense - 1 if dense else 0.0, "windows": self.windows}


def perplexities(pith, windows, args):
    """Of whole windows: dense, each strength, and beside it the methods that see as many pairs."""
    def measure(method, dense=None):
        total = Sum()
        for window in windows:
            total.add(pith.eval(window, method))
        return total.row(method.name, dense)

    rows = [measure(DENSE)]
    dense, length = rows[0]["perplexity"], len(windows[0])
    for tau in args.taus:
        rows.append(measure(gate(tau), dense))
        as_many = rows_for(length, rows[-1]["kept"])
        rows.append(measure(streaming(as_many), dense))
        if length <= args.h2o_length:
            rows.append(measure(h2o(as_many, args.h2o_chunk), dense))
    return rows


def continuations(pith, windows, args):
    """Of the last quarter of windows whose first three are a prompt: there SnapKV acts, and holds as many rows as the gates."""
    prompt = len(windows[0]) * 3 // 4
    sums = {}

    def add(name, *found):
        sums.setdefault(name, Sum()).add(*found)

    for window in windows:
        before = pith.eval(window[:prompt], DENSE)
        add("dense", pith.eval(window, DENSE), before)
        for tau in args.taus:
            method = gate(tau)
            start = pith.eval(window[:prompt], method)
            lanes = [lane for layer in start["drop_at"] for lane in (layer if isinstance(layer[0], list) else [layer])]
            rows = round(sum(lane.count(-1) for lane in lanes) / len(lanes))
            add(method.name, pith.eval(window, method), start)
            snap = Method("", ["--policy", f"snapkv(rows={rows},window={min(32, max(1, rows // 2))})"])
            add(f"SnapKV as tau {tau:g}", pith.eval(window, snap, "--prompt-tokens", str(prompt)), before)
            window_of = streaming(rows)
            add(f"sinks + window as tau {tau:g}", pith.eval(window, window_of),
                pith.eval(window[:prompt], window_of))
    dense = sums["dense"].row("dense")["perplexity"]
    return [total.row(name, dense if name != "dense" else None) for name, total in sums.items()]


def from_afar(ids):
    """Places of tokens that end three in a row which stood there before, for the last time more than FAR tokens back."""
    places, last = set(), {}
    for place in range(2, len(ids)):
        three = tuple(ids[place - 2:place + 1])
        if place - last.get(three, place) > FAR:
            places.add(place)
        last[three] = place
    return places


def repeats(pith, windows, args):
    """Whose losses rise: all tokens, those that repeat something from afar, and the others."""
    texts = [pith.text(window) for window in windows]
    rows, dense = [], {}
    for method in [DENSE, *map(gate, args.taus)]:
        traces = [pith.trace(text, method) for text in texts]
        losses = {"": [], ", repeats from afar": [], ", others": []}
        for trace in traces:
            far = from_afar(trace["tokens"])
            for place, logprob in enumerate(trace["logprob"]):
                if logprob is not None:
                    losses[""].append(-logprob)
                    losses[", repeats from afar" if place in far else ", others"].append(-logprob)
        kept = sum(trace["kept"] for trace in traces) / len(traces)
        for kind, found in losses.items():
            if found:
                perplexity = math.exp(sum(found) / len(found))
                rows.append({"name": method.name + kind, "kept": kept, "perplexity": perplexity,
                             "cost": perplexity / dense.setdefault(kind, perplexity) - 1, "tokens": len(found)})
    return rows


def document(pith, rng, sentences, length):
    """A text of a book in which facts are stated and asked for again: (ids, [(first place of the answer, its ids, distance)])."""
    count = max(4, length // 128)
    names = rng.sample([f"{first} {last}" for first in FIRST for last in LAST], count)
    events = []
    for number, name in enumerate(names):
        kind = rng.choice(list(FACTS))
        stated = rng.random() ** 2 * 0.95
        asked = stated + (1 - stated) * rng.choice((rng.random() ** 3, rng.random(), rng.random() ** 0.3))
        value = rng.choice(FACTS[kind])
        events.append((stated, number, [f" The {kind} of {name} is {value}."]))
        events.append((asked, number, [f" What is the {kind} of {name}? The {kind} of {name} is", f" {value}", "."]))
    events.sort(key=lambda event: event[0])
    parts = pith.each([text for _, _, texts in events for text in texts])
    prose = length - sum(map(len, parts))
    ids, questions, stated, used, at = [], [], {}, 0, iter(parts)
    following = iter(sentences)
    for place, number, texts in events:
        while used < place * prose:
            sentence = next(following)
            used += len(sentence)
            ids += sentence
        if len(texts) == 1:
            ids += next(at)
            stated[number] = len(ids)
            continue
        ids += next(at)
        answer = next(at)
        questions.append((len(ids), answer, len(ids) - stated[number]))
        ids += answer + next(at)
    return ids[:length], [q for q in questions if q[0] + len(q[1]) <= length]


def recall(pith, ids_of_sentences, length, documents, args):
    """Facts that the dense model recalls, and how many of them the others do, by distance."""
    rng = random.Random(f"{length}")
    edges = [edge for edge in (0, 64, 256, 1024, 4096) if edge < length] + [length]
    made = []
    for _ in range(documents):
        begin = rng.randrange(len(ids_of_sentences) // 2)
        made.append(document(pith, rng, ids_of_sentences[begin:], length))

    def right(method):
        found, kept = [], 0.0
        for ids, questions in made:
            places = [start - 1 + i for start, answer, _ in questions for i in range(len(answer))]
            best, share = pith.likeliest(ids, method, places)
            kept += share / len(made)
            found += [all(best[start - 1 + i] == token for i, token in enumerate(answer)) for start, answer, _ in questions]
        return found, kept

    distances = [distance for _, questions in made for _, _, distance in questions]
    known, _ = right(DENSE)

    def row(name, found, kept, of):
        counted = {}
        for low, high in zip(edges, edges[1:]):
            here = [i for i, distance in enumerate(distances) if low <= distance < high and of[i]]
            counted[f"{low}-{high}"] = [sum(found[i] for i in here), len(here)]
        total = [sum(a and b for a, b in zip(found, of)), sum(of)]
        return {"name": name, "kept": kept, "right": total[0], "of": total[1], "by_distance": counted}

    rows = [row("dense", known, 1.0, [True] * len(known))]
    for tau in args.taus:
        found, kept = right(gate(tau))
        rows.append(row(gate(tau).name, found, kept, known))
        rows.append(row(streaming(0).name, *right(streaming(rows_for(length, kept))), known))
    return rows


def lambada(pith, path, count, args):
    """Last words of passages, all of whose tokens are the likeliest ones."""
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"].rpartition(" ") for _, line in zip(range(count), file)]
    questions = list(zip((pith.tokens(start) for start, _, _ in texts), pith.each([" " + word for _, _, word in texts])))
    rows = []
    for method in [DENSE, *map(gate, args.taus)]:
        right, kept = 0, 0.0
        for before, answer in questions:
            places = [len(before) - 1 + i for i in range(len(answer))]
            best, share = pith.likeliest(before + answer, method, places)
            right += all(best[place] == token for place, token in zip(places, answer))
            kept += share / len(questions)
        rows.append({"name": method.name, "kept": kept, "right": right, "of": len(questions)})
    return rows


def hellaswag(pith, path, count, args):
    """Endings of which the likeliest by character is the right one. A question is six lines: context, number, endings."""
    with bz2.open(path, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n") for _, line in zip(range(6 * count), file)]
    ids = iter(pith.each([line for at in range(0, len(lines), 6) for line in (lines[at], *(" " + e for e in lines[at + 2:at + 6]))]))
    questions = [(next(ids), int(lines[at + 1]), [(len(e), next(ids)) for e in lines[at + 2:at + 6]])
                 for at in range(0, len(lines), 6)]
    rows = []
    for method in [DENSE, *map(gate, args.taus)]:
        right, kept = 0, 0.0
        for start, gold, endings in questions:
            before = pith.eval(start, method)
            worth = []
            for characters, ending in endings:
                found = pith.eval(start + ending, method)
                worth.append((before["nll"] * (len(start) - 1) - found["nll"] * (len(start) + len(ending) - 1)) / characters)
                kept += found["kept"] / len(endings)
            right += worth.index(max(worth)) == gold
        rows.append({"name": method.name, "kept": kept / len(questions), "right": right, "of": len(questions)})
    return rows


def table(title, rows):
    print(f"\n{title}")
    for row in rows:
        line = f"  {row['name']:<34} kept {row['kept']:6.1%}"
        if "perplexity" in row:
            line += f"  perplexity {row['perplexity']:8.3f}  {row['cost']:+8.2%}"
            line += f"  of {row['tokens']} tokens" if "tokens" in row else ""
        else:
            line += f"  right {row['right']:4} of {row['of']:4}"
            line += "".join(f"  {span}: {a}/{b}" for span, (a, b) in row.get("by_distance", {}).items())
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--gates", required=True, help="sidecar")
    parser.add_argument("--taus", type=float, nargs="+", required=True, help="strengths of the gates")
    parser.add_argument("--pith", default="build/release/bin/pith", help="the command")
    parser.add_argument("--text", nargs="*", default=[], help="files whose perplexity is measured")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024], help="tokens a window")
    parser.add_argument("--windows", type=int, nargs="+", default=[4], help="windows of each length, spread over each text; 0: none")
    parser.add_argument("--h2o-length", type=int, default=1024, help="no H2O in longer windows: it takes a pass for a few tokens")
    parser.add_argument("--h2o-chunk", type=int, default=1, help="tokens a pass of H2O; its paper's is 1")
    parser.add_argument("--continued", type=int, default=0, help="windows of each text of the comparison with SnapKV")
    parser.add_argument("--repeats", type=int, default=0, help="windows of each text in which repeats from afar are told from the rest")
    parser.add_argument("--recall", type=int, nargs="*", default=[], help="documents of each length; prose of the last text")
    parser.add_argument("--lambada", help="lambada_test.jsonl")
    parser.add_argument("--hellaswag", help="hellaswag_val_full.txt.bz2")
    parser.add_argument("--questions", type=int, default=500, help="of LAMBADA and of HellaSwag")
    parser.add_argument("--kv", default="f16")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", help="JSON of all tables")
    args = parser.parse_args()
    pith, tables = Pith(args), {}

    def add(title, rows):
        tables[title] = rows
        table(title, rows)
        if args.out:
            with open(args.out, "w", encoding="utf-8") as file:
                json.dump({"model": args.model, "gates": args.gates, "kv": args.kv, "tables": tables}, file, indent=1)

    for path in args.text:
        with open(path, encoding="utf-8") as file:
            ids = pith.tokens(file.read())
        name = os.path.basename(path).rpartition(".")[0]
        for length, count in zip(args.lengths, args.windows):
            if count:
                add(f"{name}, {length} tokens", perplexities(pith, spread(ids, length, count), args))
        if args.continued:
            add(f"{name}, continued", continuations(pith, spread(ids, args.lengths[0], args.continued), args))
        if args.repeats:
            add(f"{name}, repeats", repeats(pith, spread(ids, args.lengths[0], args.repeats), args))
    if args.recall:
        with open(args.text[-1], encoding="utf-8") as file:
            sentences = re.split(r"(?<=[.!?]) +", re.sub(r"\s+", " ", file.read()).strip())
        ids = pith.each([" " + sentence for sentence in sentences])
        for length, count in zip(args.lengths, args.recall):
            add(f"recall, {length} tokens", recall(pith, ids, length, count, args))
    if args.lambada:
        add("LAMBADA", lambada(pith, args.lambada, args.questions, args))
    if args.hellaswag:
        add("HellaSwag", hellaswag(pith, args.hellaswag, args.questions, args))


if __name__ == "__main__":
    main()
