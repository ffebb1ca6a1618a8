# SPDX-License-Identifier: MIT
import unittest

import support

import torch

import induction
import model
import pretrain


class Schedules(unittest.TestCase):
    def test_context_grows_by_stages(self):
        stages = [(128, 0.0), (256, 0.15), (1024, 0.7)]
        self.assertEqual([pretrain.length_at(stages, p) for p in (0.0, 0.14, 0.15, 0.69, 0.7, 0.99)],
                         [128, 128, 256, 256, 1024, 1024])

    def test_echoes_become_rare(self):
        self.assertEqual(pretrain.echo_at(0.0, 0.5, 0.05), 0.5)
        self.assertAlmostEqual(pretrain.echo_at(pretrain.ECHO_FALL / 2, 0.5, 0.1), 0.3)
        self.assertEqual(pretrain.echo_at(0.9, 0.5, 0.05), 0.05)


class Planted(unittest.TestCase):
    """A planted start already copies from its context; a random one does not."""

    def gain(self, planted):
        """By how much random tokens are likelier the second time, nats."""
        torch.manual_seed(0)
        decoder = model.Decoder(pretrain.config_of(512, 0, 128, 2, 4, 2, 256))
        if planted:
            induction.plant(decoder)
        rows = torch.randint(0, 512, (8, 100)).repeat(1, 2)
        with torch.no_grad():
            logits, _ = decoder(rows)
        first, again = (pretrain.next_token_loss(logits[:, at:at + 90], rows[:, at + 1:at + 91]) for at in (5, 105))
        return (first - again).item()

    def test_copies_from_context(self):
        self.assertGreater(self.gain(planted=True), 0.05)
        self.assertLess(abs(self.gain(planted=False)), 0.02)

    def test_refuses_shapes_it_does_not_fit(self):
        with self.assertRaisesRegex(ValueError, "expected at least 3 heads, 2 kv-heads and 2 layers, found 2, 1 and 2"):
            induction.plant(model.Decoder(pretrain.config_of(64, 0, 32, 2, 2, 1, 16)))


if __name__ == "__main__":
    unittest.main()
