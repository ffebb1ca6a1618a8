# SPDX-License-Identifier: MIT
"""Checkpoints of the paper's public implementation (a GPT-2 state dict in a .pt file) to a Hugging Face directory.

Its linear layers are stored [out, in], those of Hugging Face's GPT-2 [in, out]; both are understood, and told apart by
the shape of the fused qkv projection.
"""

import json
import os
import re

import torch

import checkpoint
import gates
import model

GPT2_END = 50256    # <|endoftext|> of GPT-2's vocabulary
WRAPPERS = ("model_state_dict", "state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "transformer.")
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|bias_int|masked_bias)$")                    # masks, rebuilt where needed
LINEAR = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$")


def read_state(path):
    """name (no prefix) -> tensor of the .pt file, its buffers left out; nothing in it is executed."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    state = {}
    for name, tensor in content.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{path}: {name}: expected a tensor, found {type(tensor).__name__}")
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        if not BUFFERS.match(name):
            state[name] = tensor
    return state


def infer_config(state, path, n_heads):
    """`model.Config` that the shapes of `state` (linear layers [in, out]) say; the number of heads cannot be seen."""
    vocab_size, d_model = state["wte.weight"].shape
    if d_model % n_heads:
        raise ValueError(f"{path}: wte.weight: expected a width that {n_heads} heads divide, found {d_model}")
    n_layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("h."))
    gate = None
    if "h.0.attn.q_int.weight" in state:
        gate = gates.GateConfig(state["h.0.attn.q_int.weight"].shape[0])
    return model.Config("gpt2", vocab_size, d_model, n_layers, n_heads, n_heads, d_model // n_heads,
                        state["h.0.mlp.c_fc.weight"].shape[1], state["wpe.weight"].shape[0],
                        end=min(GPT2_END, vocab_size - 1), gate=gate)


def convert(path, out, *, n_heads, tokenizer=None, dtype=torch.float16):
    """Write the directory `out`; every tensor of the file must have a place, and every place a tensor."""
    _refuse_propagation(path)
    state = read_state(path)
    for name in ("wte.weight", "wpe.weight", "h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight"):
        if name not in state:
            raise ValueError(f"{path}: {name}: expected a tensor, found none")
    if state["h.0.attn.c_attn.weight"].shape[1] == state["wte.weight"].shape[1]:
        state = {name: tensor.t() if LINEAR.match(name) else tensor for name, tensor in state.items()}
    config = infer_config(state, path, n_heads)
    head = state.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, state["wte.weight"]):
        raise ValueError(f"{path}: lm_head.weight: expected the embedding itself (a tied head), found other values")
    wanted = checkpoint.layout(config) + (checkpoint.gate_layout(config) if config.gate else [])
    unknown = sorted(set(state) - {stored.name.replace("transformer.", "", 1) for stored in wanted})
    if unknown:
        raise ValueError(f"{path}: {unknown[0]}: expected a tensor of a gated GPT-2, found an unknown name "
                         f"({len(unknown)} in all)")
    decoder = model.Decoder(config)
    checkpoint.assign(decoder, wanted, state, path)
    checkpoint.save(decoder, out, tokenizer, dtype)
    return decoder


def _refuse_propagation(path):
    """The public trainer writes its arguments beside its checkpoints; one of them changes what the gates mean."""
    beside = os.path.join(os.path.dirname(path), "config.json")
    if os.path.isfile(beside):
        with open(beside, encoding="utf-8") as file:
            if json.load(file).get("propagate_in_depth"):
                raise ValueError(f"{beside}: propagate_in_depth: expected false, found true, which is not supported")
