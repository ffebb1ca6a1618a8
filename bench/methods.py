#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every method that `pith policies` lists, with the same part of a prompt kept, on the same documents in one run. Needs numpy.

    bench/methods.py -m smollm2.gguf --gates gates.safetensors --text a.txt b.txt --length 2048 --keep 0.5 0.25 --out found.json
    bench/methods.py --report found.json > tables.md

A document is a prompt of --length tokens, at whose end a method has forgotten what it forgets, and a continuation that is fed
token by token, in which it forgets on. `pith eval` does both, with real eviction. Asked of the continuation:

    text      perplexity above the dense model's, and divergence (KL, nats a token) from what that one predicts
    recall    facts hidden among the sentences: all tokens of the answer the likeliest, of those that the dense model gets right;
              "asked" where the question belongs to the prompt, so that a method has seen it when it forgets, else it comes after
    copy      tokens of a list of words that stands in the prompt and is repeated
    lambada   last words of passages (their prompts are short)

and of `pith run` on the first text: tokens/s and bytes of the cache.
"""
import argparse
import concurrent.futures
import json
import math
import os
import random
import re
import sys
import tempfile

import numpy as np

import quality

FOLLOWING = 128       # tokens after a text's prompt
WORDS = 40            # of a list
KEYS = (1, 4, 8)      # facts in a document
BISECTIONS = 7        # to find a gate's tau

# How a method without a share of its own is told to keep `keep` of a prompt of `rows / keep` tokens.
WITHOUT_SHARE = {
    "streaming": lambda rows: f"streaming(sinks={quality.SINKS},recent={rows - quality.SINKS})",
    "simlayerkv": lambda rows: f"simlayerkv(recent={rows // 2})",
}


class Document:
    """ids: prompt and continuation; answers: (first, last + 1) of tokens of the continuation that are asked for together."""

    def __init__(self, task, ids, prompt, answers=()):
        self.task, self.ids, self.prompt, self.answers = task, ids, prompt, list(answers)


def sentences_of(pith, path):
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"\s+", " ", file.read()).strip()
    return pith.each([" " + sentence for sentence in re.split(r"(?<=[.!?]) +", text)[:4000]])


def texts(pith, paths, length, count):
    out = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            ids = pith.tokens(file.read())
        out += [Document("text", window, length) for window in quality.spread(ids, length + FOLLOWING, count)]
    return out


def recalls(pith, sentences, length, count, rng):
    """Facts among sentences. A document of each number of keys, asked in the prompt, and one whose questions follow it."""
    out = []
    for keys in KEYS:
        for _ in range(count):
            names = rng.sample([f"{first} {last}" for first in quality.FIRST for last in quality.LAST], keys)
            kinds = [rng.choice(list(quality.FACTS)) for _ in names]
            values = [rng.choice(quality.FACTS[kind]) for kind in kinds]
            facts = pith.each([f" The {k} of {n} is {v}." for k, n, v in zip(kinds, names, values)])
            asked = pith.each([f" What is the {k} of {n}? The {k} of {n} is" for k, n in zip(kinds, names)])
            answers = pith.each([f" {value}" for value in values])
            for seen in (False, True):
                questions = 1 if seen else keys
                room = length - sum(map(len, facts)) - (len(asked[0]) if seen else 0)
                begin, prose, places = rng.randrange(len(sentences) // 2), [], sorted(rng.random() for _ in names)
                ids, at = [], 0
                while at < room:
                    while places and places[0] * room <= at:
                        ids += facts[keys - len(places)]
                        places.pop(0)
                    part = sentences[begin][:room - at]
                    ids, at, begin = ids + part, at + len(part), begin + 1
                for fact in facts[keys - len(places):]:
                    ids += fact
                following, spans = [], []
                order = rng.sample(range(keys), questions)
                for number, which in enumerate(order):
                    following += asked[which] if not (seen and number == 0) else []
                    if seen and number == 0:
                        ids += asked[which]
                    spans.append((len(following), len(following) + len(answers[which])))
                    following += answers[which]
                out.append(Document(f"recall {keys}" + (", asked" if seen else ""), ids + following, len(ids), spans))
    return out


def copies(pith, sentences, length, count, rng):
    words = sorted({word for values in quality.FACTS.values() for word in values if word.isalpha()})
    out = []
    for _ in range(count):
        chosen = rng.choices(words, k=WORDS)
        listed, head, again = pith.each([" " + ", ".join(chosen) + ".", " Here is a list of words:", " The list once more:"])
        begin, prose = rng.randrange(len(sentences) // 2), []
        while len(prose) < length - len(listed) - len(head) - len(again):
            prose, begin = prose + sentences[begin], begin + 1
        prose = prose[:length - len(listed) - len(head) - len(again)]
        half = len(prose) // 2
        ids = prose[:half] + head + listed + prose[half:] + again
        out.append(Document("copy", ids + listed, len(ids), [(i, i + 1) for i in range(len(listed))]))
    return out


def lambadas(pith, path, count):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line)["text"].rpartition(" ") for _, line in zip(range(count), file)]
    out = []
    for start, _, word in lines:
        before, answer = pith.tokens(start), pith.tokens(" " + word)
        out.append(Document("lambada", before + answer, len(before), [(0, len(answer))]))
    return out


class Judge:
    """What methods make of documents, beside the dense model."""

    def __init__(self, pith, documents, jobs):
        self.pith, self.documents, self.jobs = pith, documents, jobs
        self.dense = list(self._map(lambda document: self._run(document, quality.DENSE), documents))

    def _map(self, work, items):
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(work, items))

    def _run(self, document, method):
        """(log-probabilities [continuation, vocabulary], what `pith eval` says)"""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "logits")
            found = self.pith.eval(document.ids, method, "--prompt-tokens", str(document.prompt), "--continuation",
                                   "--logits", path)
            logits = np.fromfile(path, np.float32).reshape(len(document.ids) - document.prompt + 1, -1)[:-1]
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), found

    @staticmethod
    def _right(document, said):
        likeliest, wanted = said.argmax(axis=1), np.array(document.ids[document.prompt:])
        return [bool((likeliest[a:b] == wanted[a:b]).all()) for a, b in document.answers]

    def row(self, name, spec_of, tau=None):
        """spec_of(document) -> the policy that it is given"""
        def one(pair):
            document, (truth, dense) = pair
            said, found = self._run(document, quality.Method(name, ["--policy", spec_of(document)], tau))
            out = {"task": document.task, "bytes": found["kv_bytes"] / found["kv_bytes_dense"]}
            if document.task == "text":
                out.update(nll=found["nll"] - dense["nll"], kl=float((np.exp(truth) * (truth - said)).sum(axis=1).mean()))
            else:
                known = self._right(document, truth)
                out.update(right=sum(a for a, b in zip(self._right(document, said), known) if b), of=sum(known))
            return out

        tasks = {}
        for out in self._map(one, list(zip(self.documents, self.dense))):
            tasks.setdefault(out.pop("task"), []).append(out)
        row = {"name": name}
        for task, found in tasks.items():
            row[task] = {key: sum(one[key] for one in found) for key in ("right", "of") if key in found[0]}
            row[task].update({key: sum(one[key] for one in found) / len(found) for key in ("nll", "kl", "bytes")
                              if key in found[0]})
        return row

    def tau_for(self, keep):
        """The gate's strength at which it holds `keep` of the rows at the end of texts' prompts."""
        document = next(d for d in self.documents if d.task == "text")
        low, high, tau = -40.0, 40.0, 0.0
        for _ in range(BISECTIONS):
            tau = (low + high) / 2
            held = held_after(self.pith, document, quality.gate(tau))
            low, high = (tau, high) if held > keep else (low, tau)
        return tau


def held_after(pith, document, method):
    """The part of a prompt's rows that is there at its end."""
    found = pith.eval(document.ids[:document.prompt], method)
    lanes = [lane for layer in found["drop_at"] for lane in (layer if isinstance(layer[0], list) else [layer])]
    return sum(lane.count(-1) for lane in lanes) / sum(map(len, lanes))


def methods(pith, command, names):
    """(name, spec_of(keep, document)) of what is listed and can be told how much to keep; says what it leaves out."""
    for policy in pith.call([command, "policies", "--json"], "")["policies"]:
        name = policy["name"]
        if policy["combinator"] or name in ("none", "gate") or (names and name not in names):
            continue
        if any(option["name"] == "share" for option in policy["options"]):
            yield name, lambda keep, document, name=name: f"{name}(share={keep})"
        elif name in WITHOUT_SHARE:
            yield name, lambda keep, document, name=name: WITHOUT_SHARE[name](max(8, round(keep * document.prompt)))
        else:
            print(f"not measured: {name}, which is not told how much to keep", file=sys.stderr)


def speed(pith, args, policy, tau):
    """tokens/s of prompt and answer, bytes held at the end and of the dense cache."""
    words = [args.pith, "run", "-m", args.model, "-f", args.prompt_file, "-n", "64", "--temp", "0", "--kv", args.kv, "-t",
             str(args.threads), "--policy", policy, "--json", "-q", *(["--gates", args.gates] if tau is not None else [])]
    found = pith.call(words, "")
    return {key: found[key] for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "kv_bytes", "kv_bytes_dense")}


def measure(args):
    pith, rng = quality.Pith(args), random.Random(args.seed)
    sentences = sentences_of(pith, args.text[-1])
    documents = texts(pith, args.text, args.length, args.windows) + recalls(pith, sentences, args.length, args.documents, rng) + \
        copies(pith, sentences, args.length, args.documents, rng)
    if args.lambada:
        documents += lambadas(pith, args.lambada, args.questions)
    judge = Judge(pith, documents, args.jobs)
    found = {"model": os.path.basename(args.model), "length": args.length, "kv": args.kv, "documents": len(documents), "rows": []}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as prompt, open(args.out, "w", encoding="utf-8") as out:
        with open(args.text[0], encoding="utf-8") as file:
            prompt.write(file.read()[:int(4.2 * args.length)])
        prompt.flush()
        args.prompt_file = prompt.name

        def add(name, keep, spec_of, tau=None):
            try:
                row = {"keep": keep, **judge.row(name, spec_of, tau), "run": speed(pith, args, spec_of(documents[0]), tau)}
            except SystemExit as refused:
                row = {"keep": keep, "name": name, "refused": str(refused)}
            found["rows"].append(row)
            out.seek(0)
            json.dump(found, out)
            out.truncate()
            out.flush()
            print(json.dumps(row), flush=True)

        add("dense", 1.0, lambda document: "none")
        for keep in args.keep:
            if args.gates:
                tau = judge.tau_for(keep)
                add("gate", keep, lambda document: f"gate(tau={tau})", tau)
            for name, spec_of in methods(pith, args.pith, args.methods):
                add(name, keep, lambda document, spec_of=spec_of: spec_of(keep, document))


def report(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        tasks = list(dict.fromkeys(task for row in found["rows"] for task in row
                                   if task not in ("keep", "name", "run", "refused", "text")))
        for keep in dict.fromkeys(row["keep"] for row in found["rows"] if row["keep"] < 1):
            dense = next(row for row in found["rows"] if row["keep"] == 1)
            rows = [row for row in found["rows"] if row["keep"] == keep]
            print(f"\n{found['model']}, prompts of {found['length']} tokens, {keep:.0%} kept, {found['kv']} cache\n")
            print("| method | perplexity | KL |" + "".join(f" {task} |" for task in tasks) + " bytes | prefill | decode |")
            print("|---|---|---|" + "---|" * len(tasks) + "---|---|---|")
            for row in sorted(rows, key=lambda row: row.get("text", {}).get("kl", math.inf)):
                if "refused" in row:
                    print(f"| {row['name']} | refused: {row['refused'].rpartition(': ')[2]} |")
                    continue
                run, base = row["run"], dense["run"]
                print(f"| {row['name']} | {math.expm1(row['text']['nll']):+.1%} | {row['text']['kl']:.3f} |" +
                      "".join(f" {row[task]['right']}/{row[task]['of']} |" for task in tasks) +
                      f" {run['kv_bytes'] / run['kv_bytes_dense']:.0%} |" +
                      "".join(f" {run[key] / base[key]:.2f} |" for key in ("prefill_tokens_per_s", "decode_tokens_per_s")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", nargs="+", help="outputs, as tables")
    parser.add_argument("-m", "--model")
    parser.add_argument("--gates", help="sidecar")
    parser.add_argument("--pith", default="build/release/bin/pith", help="the command")
    parser.add_argument("--text", nargs="+", help="files; recall and copy take their prose of the last")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a prompt")
    parser.add_argument("--windows", type=int, default=2, help="of each text")
    parser.add_argument("--documents", type=int, default=4, help="of each kind of recall, and lists")
    parser.add_argument("--lambada", help="lambada_test.jsonl")
    parser.add_argument("--questions", type=int, default=100, help="of LAMBADA")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.25, 0.1], help="parts of the prompt that stay")
    parser.add_argument("--methods", nargs="*", help="these alone")
    parser.add_argument("--kv", default="f16")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(), help="documents side by side")
    parser.add_argument("--out", default="methods.json")
    args = parser.parse_args()
    if args.report:
        report(args.report)
    elif args.model and args.text:
        measure(args)
    else:
        parser.error("expected -m and --text, or --report")


if __name__ == "__main__":
    main()
