# SPDX-License-Identifier: MIT
import math
import unittest
from unittest import mock

import support

import torch

import frozen
import gates
import model

KV, GROUP, LENGTH, SIZE = 2, 3, 21, 4


def operands(dtype=torch.float64):
    torch.manual_seed(0)
    q = torch.randn(1, KV, GROUP, LENGTH, SIZE, dtype=dtype)
    return (q, *(torch.randn(1, KV, LENGTH, SIZE, dtype=dtype) for _ in range(2)))


def plain(q, k, v, gone):
    """Attention in one piece; gone: bool [1, heads, query, key] -> (mixed, weights [1, kv, group, query, key])."""
    gone = gone | frozen.future(q.shape[3])
    logits = (q @ k[:, :, None].transpose(-2, -1)).masked_fill(gone[:, :, None], -math.inf)
    weights = logits.softmax(-1)
    return weights @ v[:, :, None], weights


def margins(heads):
    """A running minimum with some keys gone, the last 2 undecided and those ahead not there."""
    s = torch.randn(1, heads, LENGTH, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(heads)) + 1.5
    return gates.running_minimum(s, 2).masked_fill(frozen.future(LENGTH), -math.inf)


class Dense(unittest.TestCase):
    def setUp(self):
        patch = mock.patch.object(frozen, "QUERY_BLOCK", 8)
        patch.start()
        self.addCleanup(patch.stop)

    def test_reads_as_plain_attention_does(self):
        q, k, v = operands()
        expected, weights = plain(q, k, v, torch.zeros(1, 1, LENGTH, LENGTH, dtype=torch.bool))
        for heads, peaks in ((1, weights.flatten(1, 2).amax(1, keepdim=True)), (KV, weights.amax(2))):
            mixed, peak = frozen.read(q, k, v, heads)
            torch.testing.assert_close(mixed, expected)
            torch.testing.assert_close(peak, peaks)
        torch.testing.assert_close(frozen.attend(q, k, v), expected)

    def test_what_is_still_to_come_looks_ahead(self):
        peak = torch.rand(1, 1, 9, 9).triu()
        found = frozen.still_to_come(peak)
        for n in range(9):
            torch.testing.assert_close(found[0, 0, :, n], peak[0, 0, :, n:].amax(1))


class Margins(unittest.TestCase):
    def test_are_running_minima_and_teach_as_they_do(self):
        torch.manual_seed(0)
        q, k = (torch.randn(2, KV, LENGTH, SIZE, dtype=torch.float64, requires_grad=True) for _ in range(2))
        b = torch.tensor([0.2, -0.1], dtype=torch.float64, requires_grad=True)
        push = torch.randn(2, KV, LENGTH, LENGTH, dtype=torch.float64)
        for *spared, block in ((1, 0, 8), (4, 0, 3), (4, 5, 3), (1, 2, 64), (30, 4, 64)):
            low = gates.running_minimum(q @ k.transpose(2, 3) + b[:, None, None], *spared) - 0.3
            low = low.masked_fill(frozen.future(LENGTH), -math.inf)
            with mock.patch.object(frozen, "KEY_BLOCK", block):
                found = frozen.Margins.apply(q, k, b, 0.3, *spared)
                torch.testing.assert_close(found, low)
                mine, truth = (torch.autograd.grad((value.nan_to_num(posinf=0.0, neginf=0.0) * push).sum(), (q, k, b))
                               for value in (found, low))
            for a, c in zip(mine, truth):
                torch.testing.assert_close(a, c)


class HardAttention(unittest.TestCase):
    def setUp(self):
        patch = mock.patch.object(frozen, "QUERY_BLOCK", 8)
        patch.start()
        self.addCleanup(patch.stop)

    def test_forward_and_operands_are_those_of_the_step_mask(self):
        for heads in (1, KV):
            margin = margins(heads)
            self.assertTrue(0.2 < (margin <= 0)[:, :, gates.judged(LENGTH, 2)].double().mean() < 0.9)
            found, expected = ([part.requires_grad_() for part in operands()] for _ in range(2))
            mixed, push = frozen.HardAttention.apply(*found, margin, 1.0), torch.randn(1, KV, GROUP, LENGTH, SIZE)
            truth, _ = plain(*expected, margin <= 0)
            torch.testing.assert_close(mixed, truth)
            for a, b in zip(torch.autograd.grad((mixed * push).sum(), found),
                            torch.autograd.grad((truth * push).sum(), expected)):
                torch.testing.assert_close(a, b)

    def test_margin_learns_what_a_key_is_worth(self):
        """A key that is gone: exactly what its return would change. One that is there: the slope of taking weight away."""
        sharpness = 1.7
        for heads in (1, KV):
            q, k, v = operands()
            margin = margins(heads).requires_grad_()
            push = torch.randn(1, KV, GROUP, LENGTH, SIZE, dtype=torch.float64)
            grad, = torch.autograd.grad((frozen.HardAttention.apply(q, k, v, margin, sharpness) * push).sum(), margin)
            gone = margin.detach() <= 0
            before, weights = plain(q, k, v, gone)
            for n, j in ((12, 3), (15, 1), (17, 9), (20, 0), (20, 17), (7, 2)):
                for head in range(heads):
                    soft = torch.sigmoid(sharpness * margin[0, head, n, j].detach())
                    if gone[0, head, n, j]:
                        returned = gone.clone()
                        returned[0, head, n, j] = False
                        change = ((plain(q, k, v, returned)[0] - before) * push).sum()
                    else:
                        ours = slice(None) if heads == 1 else slice(head, head + 1)
                        towards = v[:, ours, None, j] - before[:, ours, :, n]
                        change = (weights[:, ours, :, n, j, None] * towards * push[:, ours, :, n]).sum()
                    expected = sharpness * soft * (1 - soft) * change
                    self.assertAlmostEqual(grad[0, head, n, j].item(), expected.item(), places=9)
            self.assertTrue((grad[:, :, frozen.future(LENGTH)] == 0).all())

    def test_undecided_keys_push_nothing(self):
        margin = margins(1).requires_grad_()
        q, k, v = operands()
        frozen.HardAttention.apply(q, k, v, margin, 2.0).sum().backward()
        self.assertTrue(torch.isfinite(margin.grad).all())
        self.assertTrue((margin.grad[:, :, ~gates.judged(LENGTH, 2)] == 0).all())


class Divergence(unittest.TestCase):
    def test_is_the_distillation_loss_and_its_gradient(self):
        torch.manual_seed(1)
        said, taught, head = torch.randn(2, 13, 6, dtype=torch.float64), torch.randn(2, 13, 6, dtype=torch.float64), \
            torch.randn(30, 6, dtype=torch.float64)
        said.requires_grad_()
        with mock.patch.object(frozen, "POSITION_BLOCK", 5):
            found = frozen.Divergence.apply(said, taught, head)
        log_p, log_q = (taught @ head.t()).log_softmax(-1), (said @ head.t()).log_softmax(-1)
        truth = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
        self.assertAlmostEqual(found.item(), truth.item(), places=5)
        a, b = (torch.autograd.grad(3 * value, said, retain_graph=True)[0] for value in (found, truth))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


class KeptPairs(unittest.TestCase):
    def test_counts_steps_and_leans_on_the_sigmoid(self):
        margin = margins(KV).requires_grad_()
        kept, slope = frozen.kept_pairs(margin, 1.3)
        causal = ~frozen.future(LENGTH)
        self.assertAlmostEqual(kept, (margin > 0)[:, :, causal].double().mean().item())
        grad, = torch.autograd.grad(torch.sigmoid(1.3 * margin)[:, :, causal].mean(), margin)
        torch.testing.assert_close(slope, grad)


class Passes(unittest.TestCase):
    def test_are_those_of_the_decoder(self):
        for family in model.FAMILIES:
            for scope in gates.SCOPES:
                torch.manual_seed(2)
                decoder = model.Decoder(support.tiny(family, gates.GateConfig(8, recent=3, scope=scope, sinks=2)), gate_bias=0.1).eval()
                for _, weight in decoder.gate_parameters():
                    if weight.dim() == 2:
                        torch.nn.init.normal_(weight)
                tokens = torch.randint(0, 300, (2, 40))
                with torch.no_grad(), self.subTest(family=family, scope=scope):
                    dense, _ = decoder.hidden(tokens)
                    torch.testing.assert_close(frozen.dense_hidden(decoder, tokens), dense, rtol=1e-4, atol=1e-5)
                    truth, gone = decoder.hidden(tokens, model.Visibility(threshold=0.3))
                    found, margins, _ = frozen.gated_hidden(decoder, tokens, 0.3, 2.0)
                    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5)
                for layer, margin in zip(gone, margins):
                    visible = 1.0 - layer.double().mean().item() * 40 * 40 / (40 * 41 / 2)
                    self.assertAlmostEqual(frozen.kept_pairs(margin, 2.0)[0], visible, places=5)
                    self.assertLess(visible, 0.9)


if __name__ == "__main__":
    unittest.main()
