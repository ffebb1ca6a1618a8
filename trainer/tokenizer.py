# SPDX-License-Identifier: MIT
"""Byte-level byte-pair encoding: learn it from texts, encode, decode, read and write Hugging Face `tokenizer.json`."""

import collections
import json
import re
import sys
import unicodedata

END_OF_TEXT = "<|endoftext|>"
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"    # Unicode's White_Space


def _byte_symbols():
    """The printable character that stands for each byte in GPT-2 style vocabularies: list of 256 str."""
    printable = set(range(0x21, 0x7F)) | set(range(0xA1, 0xAD)) | set(range(0xAE, 0x100))
    symbols, spare = [], 0x100
    for byte in range(256):
        if byte in printable:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(spare))
            spare += 1
    return symbols


def _character_class(major):
    """Body of a regex class holding every character whose Unicode category begins with `major` ('L' or 'N')."""
    ranges = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] != major:
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in ranges)


def _split_pattern():
    """GPT-2's split: contractions, then runs of letters, digits or signs with at most one leading space."""
    letter, digit = _character_class("L"), _character_class("N")
    return re.compile(rf"'(?:[sdmt]|ll|ve|re)| ?[{letter}]+| ?[{digit}]+| ?[^{SPACE}{letter}{digit}]+"
                      rf"|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+")


BYTE_SYMBOLS = _byte_symbols()
BYTE_OF_SYMBOL = {symbol: byte for byte, symbol in enumerate(BYTE_SYMBOLS)}
SPLIT = _split_pattern()
DIGIT = re.compile(rf"([{_character_class('N')}])")


class Tokenizer:
    """Ids 0 <|endoftext|>, 1..256 the bytes, then one id per merge."""

    def __init__(self, vocabulary, merges, special, lone_digits=False):
        """lone_digits: every digit is cut off before anything else, as SmolLM2's `Digits` pre-tokenizer does."""
        self.vocabulary = vocabulary                                      # symbol string -> id
        self.merges = merges                                              # [(left, right)] in order of rank
        self.special = special                                            # content -> id, never split
        self.lone_digits = lone_digits
        self.symbols = {i: s for s, i in vocabulary.items()}              # id -> symbol string
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        self._cache = {}                                                  # word -> ids

    @property
    def size(self):
        """Number of ids."""
        return 1 + max([*self.vocabulary.values(), *self.special.values()])

    @property
    def end(self):
        """Id of <|endoftext|>."""
        return self.special[END_OF_TEXT]

    def encode(self, text):
        """Ids of `text`; special tokens in it are read as plain text."""
        ids = []
        for word in self._words(text):
            known = self._cache.get(word)
            if known is None:
                known = self._cache[word] = self._encode_word(word)
            ids.extend(known)
        return ids

    def _words(self, text):
        for part in DIGIT.split(text) if self.lone_digits else (text,):
            yield from SPLIT.findall(part)

    def _encode_word(self, word):
        parts = [BYTE_SYMBOLS[byte] for byte in word.encode("utf-8")]
        while len(parts) > 1:
            ranks = [self._rank.get(pair, len(self._rank)) for pair in zip(parts, parts[1:])]
            best = min(ranks)
            if best == len(self._rank):
                break
            at = ranks.index(best)
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        return [self.vocabulary[part] for part in parts]

    def piece(self, token):
        """Bytes of one id; a special token has its own name as bytes."""
        symbol = self.symbols.get(token)
        if symbol is None:
            return next(name for name, i in self.special.items() if i == token).encode()
        return bytes(BYTE_OF_SYMBOL[s] for s in symbol)

    def decode(self, tokens):
        """Text of ids; bytes that are no valid UTF-8 become the replacement character."""
        return b"".join(self.piece(int(token)) for token in tokens).decode("utf-8", "replace")

    def save(self, path):
        """Write the Hugging Face `tokenizers` JSON form."""
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        digits = {"type": "Digits", "individual_digits": True}
        split = {"type": "Sequence", "pretokenizers": [digits, byte_level]} if self.lone_digits else byte_level
        document = {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for name, i in self.special.items()],
            "normalizer": None, "pre_tokenizer": split, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {**self.special, **self.vocabulary},
                      "merges": [f"{left} {right}" for left, right in self.merges]}}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False, indent=1)
            file.write("\n")


def load(path):
    """Read a byte-level BPE `tokenizer.json`; anything else is refused by name."""
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    model = document["model"]
    parts = _parts(document.get("pre_tokenizer"))
    kinds = [part.get("type") for part in parts]
    lone_digits = bool(parts) and parts[0] == {"type": "Digits", "individual_digits": True}
    if model.get("type") != "BPE" or kinds[lone_digits:] != ["ByteLevel"]:
        raise ValueError(f"{path}: expected a byte-level BPE tokenizer, found model {model.get('type')} "
                         f"with pre-tokenizer {kinds}")
    special = {token["content"]: token["id"] for token in document.get("added_tokens", [])}
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    vocabulary = {symbol: i for symbol, i in model["vocab"].items() if symbol not in special}
    return Tokenizer(vocabulary, merges, special, lone_digits)


def _parts(pre_tokenizer):
    if pre_tokenizer is None:
        return []
    return pre_tokenizer.get("pretokenizers", [pre_tokenizer])


def train(texts, size):
    """Learn a vocabulary of `size` ids (Sennrich et al. 2016, on bytes) from an iterable of texts."""
    counts = collections.Counter()
    for text in texts:
        counts.update(SPLIT.findall(text))
    words = [[BYTE_SYMBOLS[byte] for byte in word.encode("utf-8")] for word in counts]
    weights = list(counts.values())

    pair_count = collections.Counter()
    words_with = collections.defaultdict(set)                            # pair -> indices into words
    for index, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pair_count[pair] += weights[index]
            words_with[pair].add(index)

    vocabulary = {symbol: 1 + byte for byte, symbol in enumerate(BYTE_SYMBOLS)}
    merges = []
    while len(vocabulary) + 1 < size and pair_count:
        best = max(pair_count, key=lambda pair: (pair_count[pair], pair))
        if pair_count[best] < 2:
            break
        merges.append(best)
        vocabulary["".join(best)] = 1 + len(vocabulary)
        for index in words_with.pop(best):
            word = words[index]
            for pair in zip(word, word[1:]):
                pair_count[pair] -= weights[index]
            words[index] = word = _merge(word, best)
            for pair in zip(word, word[1:]):
                pair_count[pair] += weights[index]
                words_with[pair].add(index)
        del pair_count[best]
    return Tokenizer(vocabulary, merges, {END_OF_TEXT: 0})


def _merge(word, pair):
    merged, at = [], 0
    while at < len(word):
        if tuple(word[at:at + 2]) == pair:
            merged.append(word[at] + word[at + 1])
            at += 2
        else:
            merged.append(word[at])
            at += 1
    return merged
