# SPDX-License-Identifier: MIT
"""Training tokens for gates over a chat model: excerpts of many books, conversations in ChatML made from them, and other texts
as they are. In the conversations sentences are asked for word for word, some of them several passages later.
"""

import os
import random
import re

import numpy

import data
import tokenizer as bpe

SHORT, LONG = 200, 1500    # characters of a paragraph that makes a passage
PASSAGES = 60              # paragraphs that a book must have to be talked about
TURNS = (2, 8)             # of a conversation, at least and at most
PIECE = 4096               # tokens of a text as it is that stay together
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QUESTIONS = (("Repeat the first sentence of the passage.", 0), ("What is the last sentence of the passage?", -1),
             ("Quote the second sentence.", 1), ("Give me a sentence from the passage, word for word.", None))
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+)*")


def encode(vocab, text):
    """Ids of a text in which special tokens are themselves."""
    pattern = "|".join(re.escape(name) for name in vocab.special)
    ids, at = [], 0
    for match in re.finditer(pattern, text):
        ids += vocab.encode(text[at:match.start()]) + [vocab.special[match.group()]]
        at = match.end()
    return ids + vocab.encode(text[at:])


def conversation(rng, book):
    """Some turns about consecutive passages of a cleaned text, in ChatML; "" where it has too few of them."""
    passages = [line for line in book.split("\n") if SHORT < len(line) < LONG]
    if len(passages) < PASSAGES:
        return ""
    at, shown = rng.randrange(len(passages) - PASSAGES + 10), []
    text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    for _ in range(rng.randint(*TURNS)):
        shown.append(passages[at])
        at += rng.randint(1, 3)
        user, answer = _turn(rng, shown)
        if answer:
            text += f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
    return text


def _turn(rng, shown):
    """(what the user says, what is answered); shown: the passages so far, the newest last."""
    passage, kind = shown[-1], rng.random()
    if kind < 0.55:
        about = passage if rng.random() < 0.6 else rng.choice(shown)
        sentences = re.split(r"(?<=[.!?])\s+", about)
        ask, which = rng.choice(QUESTIONS)
        which = rng.randrange(len(sentences)) if which is None else min(which, len(sentences) - 1)
        if about is not passage:
            ask = f'Earlier there was a passage that begins "{" ".join(about.split()[:6])}". {ask}'
        return f"{passage}\n\n{ask}", sentences[which]
    if kind < 0.8:
        cut = passage.find(" ", len(passage) // 2)
        return f"Continue the story: {passage[:cut]}", passage[cut + 1:]
    names = ", ".join(dict.fromkeys(NAME.findall(passage)))
    return f"Here is a text.\n\n{passage}\n\nWhich names are mentioned in it?", f"{names}." if names else ""


def mix(books, as_is, tokenizer, out, *, most, excerpt, conversations, seed=1):
    """Write out/{tokenizer.json, train.bin}, whole pieces in random order; a dict of tokens by kind.

    books: folders or files, of which at most `most` are used; excerpt: characters of each; conversations: about each;
    as_is: files that are packed as they are; tokenizer: tokenizer.json.
    """
    os.makedirs(out, exist_ok=True)
    rng, vocab = random.Random(seed), bpe.load(tokenizer)
    paths = data.find_texts(books)
    rng.shuffle(paths)
    pieces = []
    for path in paths[:most]:
        book = data.read_text(path)
        start = book.find("\n", rng.randrange(max(1, len(book) - excerpt))) + 1
        pieces.append(("books", vocab.encode(book[start:start + excerpt])))
        pieces.append(("conversations", encode(vocab, "".join(conversation(rng, book) for _ in range(conversations)))))
    for path in as_is:
        with open(path, encoding="utf-8") as file:
            ids = vocab.encode(file.read())
        pieces += [("as they are", ids[at:at + PIECE]) for at in range(0, len(ids), PIECE)]
    rng.shuffle(pieces)
    counts = {}
    with open(os.path.join(out, "train.bin"), "wb") as file:
        for kind, ids in pieces:
            counts[kind] = counts.get(kind, 0) + len(ids)
            if ids:
                numpy.asarray(ids + [vocab.end], dtype="<u2").tofile(file)
    vocab.save(os.path.join(out, "tokenizer.json"))
    return counts
