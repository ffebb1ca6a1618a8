# SPDX-License-Identifier: MIT
import math
import os
import tempfile
import unittest

import support

import torch

import model
import safetensors_io
import worth


class Worth(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(3)
        self.decoder = model.Decoder(support.tiny())
        self.context, self.request = torch.randint(0, 300, (9,)), torch.randint(0, 300, (4,))

    def test_of_a_replay_is_its_largest_weighted_attention(self):
        found = worth.replayed(self.decoder, self.context, self.request)
        self.assertEqual(len(found), 2)
        tokens = torch.cat([self.context, self.request, self.context])[None]
        with torch.no_grad():
            x, rope = self.decoder.begin(tokens)
            block = self.decoder.blocks[0]
            h = block.norm1(x)
            q, k, v = block.attention.project(h, rope)
            torch.testing.assert_close(found[0][0], h[0, :9])
            wo = block.attention.wo.weight
            for kv in range(2):
                for token in (0, 4, 8):
                    best = 0.0
                    for group in range(2):
                        head = kv * 2 + group
                        value = (wo[:, head * 8:head * 8 + 8] @ v[0, kv, token]).norm().item()
                        for query in range(9, 22):
                            logits = k[0, kv, :query + 1] @ q[0, kv, group, query]
                            best = max(best, logits.softmax(0)[token].item() * value / h[0, query].norm().item())
                    self.assertAlmostEqual(found[0][1][token, kv].item(), math.log(max(best, worth.LEAST)), places=4)

    def test_the_stream_is_the_models_own(self):
        found = worth.replayed(self.decoder, self.context, self.request)
        with torch.no_grad():
            tokens = torch.cat([self.context, self.request, self.context])[None]
            inputs = []
            hook = self.decoder.blocks[1].norm1.register_forward_hook(lambda *arguments: inputs.append(arguments[2]))
            self.decoder(tokens)
            hook.remove()
        torch.testing.assert_close(found[1][0], inputs[0][0, :9], atol=1e-5, rtol=1e-4)

    def test_a_linear_map_is_found(self):
        weight, bias = torch.randn(3, 5), torch.randn(3)
        ridge = worth.Ridge(5, 3)
        for _ in range(4):
            x = torch.randn(20, 5)
            ridge.add(x, x @ weight.t() + bias)
        found = ridge.solve(0.0)
        torch.testing.assert_close(found[0], weight, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[1], bias, atol=1e-4, rtol=1e-4)
        self.assertGreater(worth.explained(found, x, x @ weight.t() + bias), 0.999)

    def test_a_fit_has_the_names_and_shapes_that_pith_reads(self):
        tensors = worth.fit(self.decoder, [self.context, torch.randint(0, 300, (20,))], self.request)
        self.assertEqual(sorted(tensors), ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"])
        self.assertEqual(tensors["layers.1.weight"].shape, (2, 32))
        self.assertEqual(tensors["layers.1.bias"].shape, (2,))
        with self.assertRaisesRegex(ValueError, "at least one"):
            worth.fit(self.decoder, [], self.request)

    def test_fast_kvzips_layers_are_renamed(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "gates.pt")
            torch.save({"module": [{"b": torch.ones(2, 1, 3)}, {"b": torch.zeros(2, 1, 3)}]}, path)
            out = worth.save(worth.from_fast_kvzip(path), os.path.join(folder, "gates.safetensors"))
            tensors, _ = safetensors_io.read(out)
            self.assertEqual(sorted(tensors), ["layers.0.b", "layers.1.b"])
            torch.testing.assert_close(tensors["layers.0.b"], torch.ones(2, 1, 3))
            torch.save([1], path)
            with self.assertRaisesRegex(ValueError, "module"):
                worth.from_fast_kvzip(path)


if __name__ == "__main__":
    unittest.main()
