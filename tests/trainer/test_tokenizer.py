# SPDX-License-Identifier: MIT
import json
import os
import tempfile
import unittest

import support

import tokenizer as bpe

TEXT = ("The miller lived by the mill, and the miller's daughter didn't. In 1842 there were 300 of them -- naïve, "
        "old; \"so be it\", said he.\n\n  The mill turned and turned.\n")


class Tokenizer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.vocab = bpe.train([TEXT] * 3, 300)

    def test_decodes_what_it_encodes(self):
        for text in (TEXT, "", " ", "\n \n", "日本語 ½ ²", "tabs\tand\r\nreturns", "a'll'd", "😀 x"):
            self.assertEqual(self.vocab.decode(self.vocab.encode(text)), text)

    def test_ids_are_special_bytes_then_merges(self):
        self.assertEqual(self.vocab.size, 300)
        self.assertEqual(self.vocab.end, 0)
        self.assertEqual(bpe.Tokenizer(self.vocab.vocabulary, [], self.vocab.special).encode("A\n"), [1 + 65, 1 + 10])

    def test_learns_the_commonest_pair_first(self):
        vocab = bpe.train(["aaab aaab abab"], 258 + 1)
        self.assertEqual(vocab.merges[0], ("a", "b"))

    def test_applies_merges_by_rank(self):
        symbols = {"a": 1, "b": 2, "c": 3, "bc": 4, "ab": 5, "abc": 6}
        vocab = bpe.Tokenizer(symbols, [("b", "c"), ("a", "b")], {bpe.END_OF_TEXT: 0})
        self.assertEqual(vocab.encode("abc"), [1, 4])
        vocab = bpe.Tokenizer(symbols, [("b", "c"), ("a", "b"), ("a", "bc")], {bpe.END_OF_TEXT: 0})
        self.assertEqual(vocab.encode("abcab"), [6, 5])

    def test_splits_like_gpt2(self):
        self.assertEqual(bpe.SPLIT.findall("I've 12 x½  y\n\n z--'tis"),
                         ["I", "'ve", " 12", " x", "½", " ", " y", "\n\n", " z", "--'", "tis"])

    def test_survives_its_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokenizer.json")
            self.vocab.save(path)
            again = bpe.load(path)
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        self.assertEqual(again.encode(TEXT), self.vocab.encode(TEXT))
        self.assertEqual((again.size, again.end), (300, 0))
        self.assertEqual(document["model"]["vocab"][bpe.END_OF_TEXT], 0)
        self.assertEqual(sorted(document["model"]["vocab"].values()), list(range(300)))

    def test_lone_digits_are_cut_off_first_and_survive_the_file(self):
        merged = bpe.train([TEXT, " 184 184 184"], 300)
        vocab = bpe.Tokenizer(merged.vocabulary, merged.merges, merged.special, lone_digits=True)
        found = [vocab.piece(i) for i in vocab.encode("In  184½\n")]
        self.assertEqual(found[-7:], [b" ", b"1", b"8", b"4", *(bytes([byte]) for byte in "½".encode()), b"\n"])
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokenizer.json")
            vocab.save(path)
            self.assertEqual(bpe.load(path).encode(TEXT), vocab.encode(TEXT))
        self.assertLess(len(merged.encode(" 184")), len(vocab.encode(" 184")))

    def test_refuses_other_kinds(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"model": {"type": "Unigram"}, "pre_tokenizer": {"type": "Metaspace"}}, file)
            with self.assertRaisesRegex(ValueError, "expected a byte-level BPE tokenizer, found model Unigram"):
                bpe.load(path)
            split = {"type": "Sequence", "pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}]}
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"model": {"type": "BPE"}, "pre_tokenizer": split}, file)
            with self.assertRaisesRegex(ValueError, r"found model BPE with pre-tokenizer \['Split', 'ByteLevel'\]"):
                bpe.load(path)


if __name__ == "__main__":
    unittest.main()
