# SPDX-License-Identifier: MIT
import os
import random
import re
import tempfile
import unittest

import support  # noqa: F401

import data
import mixture
import tokenizer as bpe

WORDS = "The miller of Rome went to the mill with Ada Finch and nobody saw the old man come".split()


def book(rng, paragraphs=80):
    """Paragraphs of several sentences, each another."""
    def sentence():
        return " ".join(rng.sample(WORDS, 12)).capitalize() + "."

    return "\n\n".join(" ".join(sentence() for _ in range(5)) for _ in range(paragraphs))


class Conversation(unittest.TestCase):
    def test_asks_for_what_was_shown(self):
        text, turns = data.clean(book(random.Random(1))), 0
        for seed in range(20):
            found = mixture.conversation(random.Random(seed), text)
            roles = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", found, re.DOTALL)
            self.assertEqual([role for role, _ in roles], ["system"] + ["user", "assistant"] * (len(roles) // 2))
            said = ""
            for role, what in roles:
                if role == "assistant" and "Continue the story" not in said.rpartition("\n\n")[2]:
                    turns += 1
                    self.assertTrue(all(part in said or part + "." in text for part in what.rstrip(".").split(", ")), what)
                said += "\n\n" + what
        self.assertGreater(turns, 20)

    def test_needs_a_book(self):
        self.assertEqual(mixture.conversation(random.Random(0), "Too short.\n"), "")


class Mix(unittest.TestCase):
    def test_packs_everything_once(self):
        with tempfile.TemporaryDirectory() as root:
            at = lambda name: os.path.join(root, name)
            texts = {"a.txt": book(random.Random(1)), "b.txt": book(random.Random(2)), "wiki": " = Mill = \n The mill @-@ house .\n"}
            for name, text in texts.items():
                with open(at(name), "w", encoding="utf-8") as file:
                    file.write(text)
            vocab = bpe.train([texts["a.txt"]], 300)
            vocab.special = {"<|endoftext|>": 0, "<|im_start|>": 300, "<|im_end|>": 301}
            vocab.save(at("tokenizer.json"))
            words = {"most": 2, "excerpt": 2000, "conversations": 2}
            counts = mixture.mix([root], [at("wiki")], at("tokenizer.json"), at("out"), **words)
            self.assertEqual(sorted(counts), ["as they are", "books", "conversations"])
            packed = data.open_tokens(at("out/train.bin"))
            self.assertEqual(len(packed), sum(counts.values()) + int((packed == 0).sum()))
            text = vocab.decode(packed)
            self.assertIn(texts["wiki"], text)
            self.assertEqual(text.count("<|im_start|>system"), 4)
            self.assertEqual(int((packed == 300).sum()), text.count("<|im_start|>"))    # one id each
            again = mixture.mix([root], [at("wiki")], at("tokenizer.json"), at("again"), **words)
            self.assertEqual(again, counts)
            self.assertTrue((data.open_tokens(at("again/train.bin")) == packed).all())


if __name__ == "__main__":
    unittest.main()
