# SPDX-License-Identifier: MIT
"""Texts in, packed token files out: whole books in reading order, each closed by <|endoftext|>."""

import json
import os
import random
import re

import numpy

import recall
import tokenizer as bpe

EXTENSIONS = (".txt", ".md")
RECALL_WEIGHT = 5000    # times that each word of the recall documents is added to what the vocabulary is learned from


def find_texts(folders):
    """Paths of every text below `folders`, sorted."""
    paths = []
    for folder in folders:
        if os.path.isfile(folder):
            paths.append(folder)
        for parent, _, names in os.walk(folder):
            paths += [os.path.join(parent, name) for name in names if name.endswith(EXTENSIONS)]
    if not paths:
        raise FileNotFoundError(f"{folders}: expected at least one {' or '.join(EXTENSIONS)} file, found none")
    return sorted(paths)


def clean(text):
    """One line per paragraph: hard-wrapped lines are joined, runs of blanks are one space, rulers and marks go."""
    text = text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")
    text = text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2014: "--", 0xA0: " "})
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"\s+", " ", paragraph).strip(" #")
        if re.search(r"[^\W_]", paragraph):
            paragraphs.append(paragraph)
    return "\n".join(paragraphs) + "\n"


def read_text(path):
    """Cleaned text of one file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return clean(file.read())


def prepare(train, heldout, out, vocabulary, megabytes, sample_megabytes, tokenizer=None, seed=1):
    """Write out/{tokenizer.json, train.bin, heldout.bin, heldout.txt, prepare.json}.

    train, heldout: folders or files; megabytes: stop after this much training text, whole books in random order;
    sample_megabytes: text the vocabulary is learned from; tokenizer: an existing tokenizer.json to use instead.
    """
    os.makedirs(out, exist_ok=True)
    paths = find_texts(train)
    random.Random(seed).shuffle(paths)
    if tokenizer:
        vocab = bpe.load(tokenizer)
    else:
        words = "".join(f" {word}" for word in recall.WORDS) * RECALL_WEIGHT
        vocab = bpe.train([*_excerpts(paths, int(sample_megabytes * 1e6)), words], vocabulary)
    vocab.save(os.path.join(out, "tokenizer.json"))
    if vocab.size > 1 << 16:
        raise ValueError(f"{out}/tokenizer.json: expected at most 65536 ids (packed as uint16), found {vocab.size}")

    summary = {"vocabulary": vocab.size}
    books = _until(paths, int(megabytes * 1e6))
    summary["train"] = _pack(books, vocab, os.path.join(out, "train.bin"))
    if heldout:
        held = [read_text(path) for path in find_texts(heldout)]
        summary["heldout"] = _pack(held, vocab, os.path.join(out, "heldout.bin"))
        with open(os.path.join(out, "heldout.txt"), "w", encoding="utf-8") as file:
            file.writelines(held)
    with open(os.path.join(out, "prepare.json"), "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=1)
    return summary


def _excerpts(paths, budget):
    """An equal excerpt from each text, `budget` characters in all."""
    share = max(1, budget // len(paths))
    for path in paths:
        text = read_text(path)
        start = max(0, (len(text) - share) // 2)
        yield text[start:start + share]


def _until(paths, budget):
    for path in paths:
        if budget <= 0:
            return
        text = read_text(path)
        budget -= len(text)
        yield text


def _pack(texts, vocab, path):
    tokens = characters = books = 0
    with open(path, "wb") as file:
        for text in texts:
            ids = vocab.encode(text) + [vocab.end]
            numpy.asarray(ids, dtype="<u2").tofile(file)
            tokens, characters, books = tokens + len(ids), characters + len(text), books + 1
    return {"books": books, "tokens": tokens, "characters": characters}


def open_tokens(path):
    """Packed token file as a read-only uint16 array [tokens]."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: expected a packed token file made by `prepare`, found none")
    return numpy.memmap(path, dtype="<u2", mode="r")
