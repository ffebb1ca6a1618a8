# SPDX-License-Identifier: MIT
import contextlib
import io
import json
import os
import tempfile
import unittest
from unittest import mock

import support

import torch

import plots
import trainer


class LearningRate(unittest.TestCase):
    def test_rises_stays_and_falls(self):
        rate = lambda step: trainer.learning_rate(step, 1000, 2.0, 100, 0.2)
        self.assertAlmostEqual(rate(0), 0.02)
        self.assertEqual([rate(99), rate(500), rate(799)], [2.0, 2.0, 2.0])
        self.assertAlmostEqual(rate(900), 1.0)
        self.assertAlmostEqual(rate(999), 0.01)


class Runs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_to(self, steps, folder):
        """A line fitted to a rule; batch n depends on n alone."""
        torch.manual_seed(0)
        line = torch.nn.Linear(3, 1)
        with contextlib.redirect_stderr(io.StringIO()):
            run = trainer.Trainer(line, folder, trainer.weight_groups(line.parameters()), peak=0.05, warmup=2)

        def loss_of(step):
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            return (line(x)[:, 0] - x.sum(1)).pow(2).mean(), 8, {"alpha": 1.0 + step, "kept_per_layer": [1.0, 0.5]}

        with contextlib.redirect_stderr(io.StringIO()):
            run.run(steps, loss_of, log_every=1)
        return line.weight.detach().clone(), run

    def test_learns_and_logs(self):
        _, run = self.run_to(200, self.folder)
        records = plots.read_log(self.folder)
        self.assertEqual([record["step"] for record in records], list(range(1, 201)))
        self.assertLess(records[-1]["loss"], 0.1 * records[0]["loss"])
        self.assertEqual(run.tokens, 1600)

    def test_resumes_where_it_stopped(self):
        parts = os.path.join(self.folder, "parts")
        with mock.patch.object(trainer, "learning_rate", lambda *_: 0.05):
            whole, _ = self.run_to(40, os.path.join(self.folder, "whole"))
            self.run_to(25, parts)
            resumed, run = self.run_to(40, parts)
        self.assertEqual(run.step, 40)
        torch.testing.assert_close(resumed, whole, rtol=0, atol=0)

    def test_a_broken_gradient_stops_the_run_by_name(self):
        line = torch.nn.Linear(1, 1)
        run = trainer.Trainer(line, self.folder, trainer.weight_groups(line.parameters()), peak=0.1)
        with self.assertRaisesRegex(FloatingPointError, "step 0: gradient is not finite"):
            run.run(1, lambda step: (line(torch.full((1, 1), float("inf"))).sum(), 1, {}))

    def test_draws_its_curves(self):
        try:
            import matplotlib
        except ImportError:
            self.skipTest("matplotlib is not installed")
        self.run_to(5, self.folder)
        picture = os.path.join(self.folder, "curves.png")
        plots.draw(self.folder, picture)
        with open(picture, "rb") as file:
            self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")

    def test_a_step_logged_twice_counts_once(self):
        with open(os.path.join(self.folder, trainer.LOG), "w", encoding="utf-8") as file:
            for step, loss in ((1, 3.0), (2, 2.0), (2, 1.0)):
                file.write(json.dumps({"step": step, "loss": loss}) + "\n")
        self.assertEqual([record["loss"] for record in plots.read_log(self.folder)], [3.0, 1.0])


if __name__ == "__main__":
    unittest.main()
