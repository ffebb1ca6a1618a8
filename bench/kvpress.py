#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which rows stay, beside an independent implementation: kvpress (https://github.com/NVIDIA/kvpress).

    python3 -m venv V && V/bin/pip install torch kvpress
    V/bin/python bench/kvpress.py --model DIRECTORY --text FILE [FILE ...] [--pith build/release/bin/pith] [--json OUT]

DIRECTORY holds a Llama-shaped model in f32. Of each text, --tokens tokens are a prompt; for each method the rows that either
program keeps at its end are compared, layer by layer and kv-head by kv-head.

Where they differ by intent: kvpress spares no sinks but in Expected Attention (pith is told sinks=0 elsewhere); its PyramidKV counts the window inside what a
layer gets, pith adds it (so the share of kvpress' rows that pith keeps, too, is compared); rows of equal worth are chosen at
random there, here the later one stays. KVzip (`--methods kvzip`) counts rows over all layers and heads; its press is told a
chat template without what stands before a message, as the texts here have none.
"""
import argparse
import json
import subprocess
import sys

del sys.path[0]  # its own folder, where this file has the package's name

import torch
from kvpress import (AdaKVPress, CriticalKVPress, ExpectedAttentionPress, KeyDiffPress, KnormPress, KVzipPress, LagKVPress,
                     PyramidKVPress, SnapKVPress, TOVAPress)
from kvpress.presses import kvzip_press
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

WINDOW, POOL = 64, 5
OBSERVED = f"window={WINDOW},pool={POOL},average=1,sinks=0"

# name: press(share removed), policy(rows that stay of so many tokens)
METHODS = {
    "snapkv": (lambda r: SnapKVPress(r, WINDOW, POOL), lambda rows, n: f"snapkv(rows={rows},{OBSERVED})"),
    "adakv": (lambda r: AdaKVPress(SnapKVPress(r, WINDOW, POOL), 0.2),
              lambda rows, n: f"adakv(rows={rows},{OBSERVED},floor=0.2)"),
    # kvpress makes a SnapKV of it where a layer would get less than the window: so a small one, and not too steep.
    "pyramidkv": (lambda r: PyramidKVPress(r, 8, POOL, 4),
                  lambda rows, n: f"pyramidkv(rows={rows + 8},window=8,pool={POOL},average=1,steepness=4,sinks=0)"),
    "criticalkv": (lambda r: CriticalKVPress(SnapKVPress(r, WINDOW, POOL)), lambda rows, n: f"criticalkv(rows={rows},{OBSERVED})"),
    "expected": (ExpectedAttentionPress, lambda rows, n: f"expected_attention(rows={rows},recent=0)"),
    "expected-ada": (lambda r: AdaKVPress(ExpectedAttentionPress(r, epsilon=0.01), 0.2),
                     lambda rows, n: f"expected_attention(rows={rows},recent=0,epsilon=0.01,floor=0.2)"),
    "keydiff": (KeyDiffPress, lambda rows, n: f"keydiff(rows={rows},recent=0,sinks=0)"),
    "knorm": (KnormPress, lambda rows, n: f"knorm(rows={rows},recent=0,sinks=0)"),
    "lagkv": (lambda r: LagKVPress(r, n_sink=4, lag_size=128), lambda rows, n: f"lagkv(rows={rows},lag=128,sinks=4)"),
    "tova": (TOVAPress, lambda rows, n: f"tova(rows={rows},recent=1,sinks=0)"),
    "kvzip": (KVzipPress, lambda rows, n: "none"),
}


def kept_by_kvpress(model, press, tokens):
    """[layer][kv-head] the set of positions that stay; and how many rows each layer keeps."""
    kept = {}
    compress = press.compress

    def watch(module, hidden_states, keys, values, attentions, kwargs):
        left, left_values = compress(module, hidden_states, keys, values, attentions, kwargs)
        heads, n = keys.shape[1], keys.shape[2]
        masked = getattr(module, "masked_key_indices", None)
        if masked is not None:  # Ada-KV hides rows in place of dropping them
            gone = [set() for _ in range(heads)]
            for head, position in zip(masked[1].tolist(), masked[2].tolist()):
                gone[head].add(position)
            kept[module.layer_idx] = [set(range(n)) - g for g in gone]
        else:
            same = (left[0][:, :, None] == keys[0][:, None]).all(-1)  # [head, row that stays, row]
            kept[module.layer_idx] = [set(same[h].int().argmax(-1).tolist()) for h in range(heads)]
        return left, left_values

    press.compress = watch
    with torch.no_grad(), press(model):
        model(torch.tensor([tokens]), past_key_values=DynamicCache())
    for layer in model.model.layers:
        layer.self_attn.masked_key_indices = None
    return [kept[layer] for layer in sorted(kept)]


class Unprefixed:
    """A tokenizer whose chat template begins with the first message's text."""

    def __init__(self, tokenizer):
        self.encode, self.chat_template, self.whole = tokenizer.encode, tokenizer.chat_template, tokenizer.apply_chat_template

    def apply_chat_template(self, messages, **how):
        text = self.whole(messages, **how)
        return text[text.index(messages[0]["content"]):]

    @staticmethod
    def from_pretrained(name):
        return Unprefixed(AutoTokenizer.from_pretrained(name))


def kept_by_kvzip(model, press, tokens):
    kvzip_press.AutoTokenizer = Unprefixed
    with torch.no_grad(), press(model):
        model(torch.tensor([tokens]), past_key_values=DynamicCache())
    kept = []
    for layer in model.model.layers:
        heads = [set(range(len(tokens))) for _ in range(model.config.num_key_value_heads)]
        for head, position in zip(layer.self_attn.masked_key_indices[1].tolist(), layer.self_attn.masked_key_indices[2].tolist()):
            heads[head].discard(position)
        kept.append(heads)
        layer.self_attn.masked_key_indices = None
    return kept


def kept_by_pith(pith, model, policy, tokens, more=()):
    n = len(tokens) - 1  # the last one is decoded, so that what the prompt's end drops is on record
    done = subprocess.run(
        [pith, "eval", "-m", model, "--tokens", "-", "--json", "-q", "--policy", policy, "--prompt-tokens", str(n), "-b", str(n), *more],
        input=json.dumps(tokens), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{policy}: {done.stderr}")
    layers = json.loads(done.stdout)["drop_at"]
    lanes = [layer if isinstance(layer[0], list) else [layer] for layer in layers]
    return [[{j for j in range(n) if not 0 <= lane[j] <= n} for lane in layer] for layer in lanes]


def compare(name, ours, theirs):
    """Share of rows that both keep, over all layers and heads."""
    both = all_rows = 0
    for layer, other in zip(ours, theirs):
        if len(layer) < len(other):  # one verdict for the layer
            layer = layer * len(other)
        for a, b in zip(layer, other):
            both += len(a & b)
            all_rows += len(b) if name == "pyramidkv" else max(len(a), len(b))
    return both / all_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--tokens", type=int, nargs="+", default=[600, 1000, 2000], help="lengths of prompts, by turns")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.25])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--pith", default="build/release/bin/pith")
    parser.add_argument("--json")
    args = parser.parse_args()

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa").eval()
    rows = []
    for number, path in enumerate(args.text):
        wanted = args.tokens[number % len(args.tokens)]
        with open(path, encoding="utf-8", errors="replace") as file:
            tokens = tokenizer(file.read(20 * wanted), add_special_tokens=False)["input_ids"][: wanted + 1]
        n = len(tokens) - 1
        for keep in args.keep:
            for name in args.methods:
                press, policy = METHODS[name]
                if name == "kvzip":  # it drops int(all * ratio)
                    every = n * model.config.num_hidden_layers * model.config.num_key_value_heads
                    kept = int(every * keep)
                    theirs = kept_by_kvzip(model, press(1 - (kept - 0.5) / every), tokens[:n])
                    ours = kept_by_pith(args.pith, args.model, "none", tokens, ("--kvzip", repr(kept / every)))
                else:
                    # kvpress keeps int(n * (1 - ratio)) rows.
                    kept = int(n * keep)
                    theirs = kept_by_kvpress(model, press(1 - (kept + 0.5) / n), tokens[:n])
                    ours = kept_by_pith(args.pith, args.model, policy(kept, n), tokens)
                share = compare(name, ours, theirs)
                rows.append({"text": path, "tokens": n, "keep": keep, "method": name, "same": share})
                print(f"{path.split('/')[-1]:32} {n:5} tokens, {keep:.0%} kept, {name:10} {share:.4%} of rows the same", flush=True)
    print()
    for name in args.methods:
        shares = [row["same"] for row in rows if row["method"] == name]
        print(f"{name:10} least {min(shares):.4%}, mean {sum(shares) / len(shares):.4%}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
