# SPDX-License-Identifier: MIT
import json
import os
import tempfile
import unittest

import support

import torch

import checkpoint
import gates
import model
import safetensors_io


class InFolder(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)


class Safetensors(InFolder):
    def test_survives_its_file(self):
        tensors = {"b": torch.randn(3, 5).half(), "a": torch.arange(7), "c": torch.randn(2).bfloat16(),
                   "empty": torch.zeros(0, 4)}
        safetensors_io.write(self.path("x.safetensors"), tensors, {"note": "hello"})
        again, metadata = safetensors_io.read(self.path("x.safetensors"))
        self.assertEqual(metadata, {"note": "hello"})
        self.assertEqual(list(again), ["a", "b", "c", "empty"])
        for name, tensor in tensors.items():
            self.assertEqual(again[name].dtype, tensor.dtype)
            self.assertTrue(torch.equal(again[name], tensor))

    def test_refuses_broken_files_by_name(self):
        path = self.path("x.safetensors")
        safetensors_io.write(path, {"weight": torch.randn(4, 4)})
        with open(path, "rb") as file:
            whole = file.read()
        for broken, message in ((whole[:4], "found 4 bytes"), (whole[:-1], "weight: expected 64 bytes"),
                                (b"\xff" * 8 + whole[8:], "expected a header of at most"),
                                (whole[:8] + b"!" + whole[9:], "expected a JSON header"),
                                (whole.replace(b"F32", b"Q32"), "weight: expected one of")):
            with open(path, "wb") as file:
                file.write(broken)
            with self.assertRaisesRegex(ValueError, message):
                safetensors_io.read(path)


class Directory(InFolder):
    tokens = torch.arange(40)[None] * 7 % 300

    def logits(self, decoder):
        with torch.no_grad():
            return decoder(self.tokens, model.Visibility(threshold=0.0))[0]

    def test_every_family_survives(self):
        for family in model.FAMILIES:
            for gate in (None, gates.GateConfig(8, 0.0, 4), gates.GateConfig(8, 0.0, 4, "kv_head")):
                with self.subTest(family=family, gate=gate):
                    decoder = model.Decoder(support.tiny(family, gate, tied=family != "llama"), gate_bias=0.3)
                    for parameter in decoder.parameters():
                        parameter.data.add_(torch.randn_like(parameter) * 0.05)
                    checkpoint.save(decoder, self.folder, dtype=torch.float32)
                    again = checkpoint.load(self.folder)
                    self.assertEqual(again.config, decoder.config)
                    torch.testing.assert_close(self.logits(again), self.logits(decoder), rtol=0, atol=0)

    def test_gpt2_is_stored_as_hugging_face_does(self):
        decoder = model.Decoder(support.tiny("gpt2"))
        checkpoint.save(decoder, self.folder, dtype=torch.float32)
        tensors, _ = safetensors_io.read(self.path("model.safetensors"))
        fused = tensors["transformer.h.1.attn.c_attn.weight"]
        self.assertEqual(list(fused.shape), [32, 96])
        torch.testing.assert_close(fused[:, 32:64], decoder.blocks[1].attention.wk.weight.detach().t())

    def test_a_sidecar_lies_over_a_dense_model(self):
        decoder = model.Decoder(support.tiny(gate=gates.GateConfig(8, 0.25, 3)), gate_bias=0.4)
        checkpoint.save(decoder, self.folder, dtype=torch.float32, gates_inside=False)
        self.assertIsNone(checkpoint.load(self.folder).config.gate)
        self.assertFalse(checkpoint.has_gates(self.folder))
        for name in ("strong.safetensors", checkpoint.GATES_FILE):
            sidecar = self.path(name)
            checkpoint.save_sidecar(decoder, sidecar, torch.float32)
            given = None if name == checkpoint.GATES_FILE else sidecar
            again = checkpoint.load(self.folder, given)
            self.assertEqual(again.config, decoder.config)
            torch.testing.assert_close(self.logits(again), self.logits(decoder), rtol=0, atol=0)
        self.assertTrue(checkpoint.has_gates(self.folder))
        _, metadata = safetensors_io.read(sidecar)
        self.assertEqual(json.loads(metadata["drop_gate"]),
                         {"type": "interaction", "dim": 8, "threshold": 0.25, "recent": 3})

    def test_a_sidecar_may_have_a_gate_for_each_kv_head(self):
        decoder = model.Decoder(support.tiny(gate=gates.GateConfig(8, 0.25, 3, "kv_head", sinks=2)), gate_bias=0.4)
        checkpoint.save(decoder, self.folder, dtype=torch.float32, gates_inside=False)
        sidecar = self.path("heads.safetensors")
        checkpoint.save_sidecar(decoder, sidecar)
        tensors, metadata = safetensors_io.read(sidecar)
        self.assertEqual(json.loads(metadata["drop_gate"]), {"type": "interaction", "dim": 8, "threshold": 0.25, "recent": 3,
                                                             "scope": "kv_head", "sinks": 2})
        stored = [tensors[f"model.layers.1.self_attn.{name}"] for name in ("q_int.weight", "k_int.weight", "int_bias")]
        self.assertEqual([(list(one.shape), one.dtype) for one in stored],
                         [([16, 32], torch.float16), ([16, 32], torch.float16), ([2], torch.float32)])
        again = checkpoint.load(self.folder, sidecar)
        self.assertEqual(again.config, decoder.config)
        torch.testing.assert_close(self.logits(again), self.logits(decoder), rtol=1e-2, atol=1e-2)

    def test_new_gates_replace_old_ones(self):
        decoder = model.Decoder(support.tiny(gate=gates.GateConfig(8)))
        checkpoint.save(decoder, self.folder)
        fresh = checkpoint.load(self.folder, gate_config=gates.GateConfig(4, 0.0, 2), gate_bias=5.0)
        self.assertEqual(fresh.config.gate.dim, 4)
        self.assertEqual(fresh.blocks[0].attention.gate.b.item(), 5.0)

    def test_shards_are_joined(self):
        decoder = model.Decoder(support.tiny())
        checkpoint.save(decoder, self.folder, dtype=torch.float32)
        tensors, _ = safetensors_io.read(self.path("model.safetensors"))
        os.remove(self.path("model.safetensors"))
        names = sorted(tensors)
        weight_map = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
        for shard in set(weight_map.values()):
            safetensors_io.write(self.path(shard), {n: tensors[n] for n in names if weight_map[n] == shard})
        with open(self.path("model.safetensors.index.json"), "w", encoding="utf-8") as file:
            json.dump({"weight_map": weight_map}, file)
        torch.testing.assert_close(self.logits(checkpoint.load(self.folder)), self.logits(decoder), rtol=0, atol=0)

    def test_errors_name_file_tensor_expected_and_found(self):
        decoder = model.Decoder(support.tiny())
        checkpoint.save(decoder, self.folder)
        path = self.path("model.safetensors")
        tensors, _ = safetensors_io.read(path)
        name = "model.layers.1.mlp.up_proj.weight"
        safetensors_io.write(path, {**tensors, name: torch.zeros(3, 32)})
        with self.assertRaisesRegex(ValueError, rf"{path}: {name}: expected shape \[64, 32\], found \[3, 32\]"):
            checkpoint.load(self.folder)
        del tensors[name]
        safetensors_io.write(path, tensors)
        with self.assertRaisesRegex(ValueError, rf"{path}: {name}: expected a tensor, found none"):
            checkpoint.load(self.folder)

    def test_refuses_configs_it_cannot_reproduce(self):
        good = checkpoint.config_to_json(support.tiny())
        for change, message in (({"model_type": "bert"}, "model_type: expected one of gpt2, llama, qwen2, qwen3, found 'bert'"),
                                ({"rope_scaling": {"type": "linear"}}, "rope_scaling: expected None"),
                                ({"rope_parameters": {"rope_type": "yarn"}},
                                 "rope_parameters: rope_type: expected 'default', found 'yarn'"),
                                ({"attention_bias": True}, "attention_bias: expected False, found True"),
                                ({"hidden_act": "gelu"}, "hidden_act: expected 'silu', found 'gelu'")):
            with self.assertRaisesRegex(ValueError, "config.json: " + message):
                checkpoint.config_from_json({**good, **change}, "config.json")

    def test_rope_is_told_in_either_place(self):
        fields = checkpoint.config_to_json(support.tiny())
        told = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
        self.assertEqual(checkpoint.config_from_json({**fields, **told}, "config.json").rope_theta, 5e5)
        self.assertEqual(checkpoint.config_from_json({**fields, "rope_theta": 7e4}, "config.json").rope_theta, 7e4)


if __name__ == "__main__":
    unittest.main()
