# SPDX-License-Identifier: MIT
import os
import random
import re
import tempfile
import unittest

import support

import numpy

import batches
import data
import recall
import tokenizer as bpe


class Documents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prose_text = "He went out. It rained, and nobody came! Was it late?\n" * 200
        cls.vocab = bpe.train([cls.prose_text], 300)
        cls.prose = numpy.array(cls.vocab.encode(cls.prose_text))

    def made(self, length=600, count=20):
        maker = recall.Recall(self.vocab)
        for seed in range(count):
            yield maker.document(random.Random(seed), self.prose, length)

    def test_has_the_length_and_is_repeatable(self):
        for first, second in zip(self.made(), self.made()):
            self.assertEqual(len(first[0]), 600)
            self.assertTrue((first[0] == second[0]).all())

    def test_every_answer_was_stated_at_its_distance(self):
        asked = 0
        for tokens, questions in self.made():
            for question in questions:
                value = self.vocab.decode(tokens[question.start:question.stop])
                stated = self.vocab.decode(tokens[:question.start - question.distance])
                self.assertIn(value.strip(), stated)
                self.assertGreater(question.distance, 0)
                asked += 1
        self.assertGreater(asked, 40)

    def test_the_latest_statement_before_a_question_is_the_answer(self):
        pattern = r"The (\w+) of (\w+ \w+) is$"
        checked = 0
        for tokens, questions in self.made():
            for question in questions:
                before = self.vocab.decode(tokens[:question.start])
                kind, name = re.search(pattern, before).groups()
                values = re.findall(rf"[Tt]he {kind} of {name} is (\w+)", before)
                self.assertEqual(values[-1], self.vocab.decode(tokens[question.start:question.stop]).strip())
                checked += 1
        self.assertGreater(checked, 40)

    def test_some_facts_change_and_distances_reach_far(self):
        questions = [question for _, found in self.made(count=40) for question in found]
        self.assertTrue(any(question.updated for question in questions))
        self.assertGreater(max(question.distance for question in questions), 400)

    def test_survives_prose_without_sentences(self):
        maker = recall.Recall(self.vocab)
        tokens, _ = maker.document(random.Random(1), numpy.full(300, self.vocab.encode("a")[0]), 256)
        self.assertEqual(len(tokens), 256)


class Prepared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = os.path.join(cls.temporary.name, "data")
        books = os.path.join(cls.temporary.name, "books")
        os.makedirs(os.path.join(books, "inner"))
        for name in ("a.txt", "inner/b.md"):
            with open(os.path.join(books, name), "w", encoding="utf-8") as file:
                file.write("# A head\n\nIt was a hard-\nwrapped line,\r\nof a book.\n\n-----\n\nAnd one more. " * 40)
        cls.summary = data.prepare([books], [os.path.join(books, "a.txt")], cls.folder, 280, 1.0, 1.0)

    def test_packs_every_book_and_closes_it(self):
        tokens = data.open_tokens(os.path.join(self.folder, "train.bin"))
        vocab = bpe.load(os.path.join(self.folder, "tokenizer.json"))
        self.assertEqual(self.summary["train"]["tokens"], len(tokens))
        self.assertEqual(int((tokens == vocab.end).sum()), 2)
        self.assertEqual(tokens[-1], vocab.end)

    def test_cleaned_text_and_packed_tokens_agree(self):
        vocab = bpe.load(os.path.join(self.folder, "tokenizer.json"))
        with open(os.path.join(self.folder, "heldout.txt"), encoding="utf-8") as file:
            text = file.read()
        packed = data.open_tokens(os.path.join(self.folder, "heldout.bin"))
        self.assertEqual(vocab.encode(text), packed[:-1].tolist())
        self.assertIn("It was a hard- wrapped line, of a book.\n", text)
        self.assertNotIn("---", text)

    def test_batches_depend_on_their_number_alone(self):
        one, two = (batches.Batches(self.folder, 0.3, seed=5) for _ in range(2))
        two.batch(0, 3, 64)
        (inputs, targets), (again, _) = one.batch(7, 3, 64, 0.3), two.batch(7, 3, 64, 0.3)
        self.assertTrue((inputs == again).all())
        self.assertTrue((inputs[:, 1:] == targets[:, :-1]).all())
        self.assertEqual(list(inputs.shape), [3, 64])

    def test_an_echo_says_its_span_again(self):
        inputs, _ = batches.Batches(self.folder).batch(0, 1, 128, echo_share=1.0)
        row = inputs[0].tolist()
        self.assertTrue(any(row[span:] == row[:-span] for span in range(9, 65)))

    def test_missing_files_are_named(self):
        with self.assertRaisesRegex(FileNotFoundError, "nowhere.bin: expected a packed token file"):
            data.open_tokens("nowhere.bin")
        with self.assertRaisesRegex(FileNotFoundError, "expected at least one"):
            data.find_texts([os.path.join(self.temporary.name, "none")])


if __name__ == "__main__":
    unittest.main()
