# SPDX-License-Identifier: MIT
"""Makes the folders of tests/golden that are named for an architecture: tiny random checkpoints and what transformers
computes of them in float64, as Hugging Face directories and as the GGUF files that llama.cpp's converter would write.

    pip install torch transformers safetensors gguf && python tests/golden/make.py [NAME…]
"""
import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
VOCABULARY, TOKENS = 40, 48

COMMON = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1,
              max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)

# YaRN's and LongRoPE's original contexts are shorter than the text: the scaling shows.
MODELS = {
    "gemma3": ("gemma3_text", "gemma3", dict(
        num_hidden_layers=7, head_dim=8, query_pre_attn_scalar=12, sliding_window=9, final_logit_softcapping=12.0,
        rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})),
    "gemma2": ("gemma2", "gemma2", dict(
        num_hidden_layers=3, head_dim=8, query_pre_attn_scalar=8, sliding_window=11, attn_logit_softcapping=2.0,
        final_logit_softcapping=10.0)),
    "phi3": ("phi3", "phi3", dict(
        num_hidden_layers=2, hidden_size=32, original_max_position_embeddings=24, tie_word_embeddings=True,
        rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75,
                         "short_factor": [1.0, 1.1, 1.3, 1.6, 1.8, 2.0],
                         "long_factor": [1.2, 2.0, 3.5, 5.0, 8.0, 9.0]})),
    "qwen3-yarn": ("qwen3", "qwen3", dict(
        num_hidden_layers=2, head_dim=16, rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16,
            "beta_fast": 4.0})),
    "qwen3-dms": ("qwen3", None, dict(
        num_hidden_layers=2, head_dim=8, dms_alpha_scale=4.0, dms_initial_alpha_offset=0.5, dms_window_size=5)),
    "smollm3": ("smollm3", "smollm3", dict(num_hidden_layers=4)),
    "olmo2": ("olmo2", "olmo2", dict(num_hidden_layers=2)),
    "granite": ("granite", "granite", dict(
        num_hidden_layers=2, embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.25,
        logits_scaling=2.5)),
    "mixtral": ("mixtral", "llama", dict(
        num_hidden_layers=2, num_local_experts=4, num_experts_per_tok=2, intermediate_size=12)),
    "qwen3-moe": ("qwen3_moe", "qwen3moe", dict(
        num_hidden_layers=2, head_dim=8, num_experts=5, num_experts_per_tok=3, moe_intermediate_size=8,
        norm_topk_prob=True)),
}

# ggml turns neighbours of a head where Hugging Face turns its halves.
ADJACENT = {"llama", "smollm3", "granite"}


class InDouble:
    """transformers computes norms, angles and softmax in float32, whatever the model is in: here, in float64."""

    def __enter__(self):
        self.before = torch.float32, torch.float, torch.Tensor.float
        torch.float32 = torch.float = torch.float64
        torch.Tensor.float = torch.Tensor.double

    def __exit__(self, *_):
        torch.float32, torch.float, torch.Tensor.float = self.before


def randomise(model, generator):
    """Numbers of about 1 come out where such go in; queries and keys are larger, so that attention is uneven."""
    plus_one = "gemma" in model.config.model_type
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = noise * 0.2 + (0.0 if plus_one else 1.0)
        elif "embed" in name or "lm_head" in name:
            value = noise
        else:
            uneven = any(part in name for part in ("q_proj", "k_proj", "qkv_proj", ".gate.weight"))
            value = noise * (1.5 if uneven else 1.0) / math.sqrt(parameter.shape[-1])
        parameter.data.copy_(value)


def teach(attention, config, drops):
    """A Qwen3 layer's attention as one that DMS taught (arXiv 2506.05345) has it, all tokens at once; drops gets who drops
    each token, or -1."""
    rotate = transformers.models.qwen3.modeling_qwen3.apply_rotary_pos_emb
    group, window = attention.num_key_value_groups, config.dms_window_size

    def forward(hidden_states, position_embeddings, attention_mask=None, **_):
        heads = (*hidden_states.shape[:-1], -1, attention.head_dim)
        q = attention.q_norm(attention.q_proj(hidden_states).view(heads)).transpose(1, 2)
        k = attention.k_norm(attention.k_proj(hidden_states).view(heads)).transpose(1, 2)
        v = attention.v_proj(hidden_states).view(heads).transpose(1, 2)
        logits = q[:, ::group, :, -1] * config.dms_alpha_scale - config.dms_initial_alpha_offset
        assert logits.abs().min() > 1e-3
        q[:, ::group, :, -1] = 0
        q, k = rotate(q, k, *position_embeddings)
        q[:, ::group, :, -1] = 0
        n, j = torch.arange(q.shape[2])[:, None], torch.arange(q.shape[2])
        leaves = torch.nn.functional.pad(logits[:, :, 1:] > 0, (0, 1))  # token j + 1 decides of token j
        seen = (j <= n) & ~(leaves[:, :, None] & (n > j + window))
        drops.append([i + window + 1 if leaf and i + window + 1 < TOKENS else -1 for i, leaf in enumerate(leaves[0, 0])])
        k, v, seen = (x.repeat_interleave(group, 1) for x in (k, v, seen))
        weights = (q @ k.transpose(2, 3) * attention.scaling).masked_fill(~seen, -torch.inf).softmax(-1)
        return attention.o_proj((weights @ v).transpose(1, 2).flatten(2)), None

    attention.forward = forward


def logits_of(folder, tokens, drops=None):
    with InDouble(), torch.no_grad():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager").eval()
        if hasattr(model.config, "dms_window_size"):
            for layer in model.model.layers:
                teach(layer.self_attn, model.config, drops)
        return model(torch.tensor([tokens])).logits[0].numpy()


def windows(config):
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return [config.sliding_window if kind == "sliding_attention" else 0 for kind in kinds]


def turn_neighbours(weight, heads):
    """As llama.cpp's converter does with q and k of a Llama."""
    rows = weight.shape[0] // heads
    return weight.reshape(heads, 2, rows // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder, config, arch, weights):
    writer = gguf.GGUFWriter(folder / "model.gguf", arch)
    layers, rope = config.num_hidden_layers, config.rope_parameters
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if getattr(config, "head_dim", None):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if arch == "gemma3":
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["full_attention"]["factor"])
        writer.add_sliding_window(config.sliding_window)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_attention_scale(config.query_pre_attn_scalar ** -0.5)  # llama.cpp's models have 1 / sqrt(head_dim)
    if arch == "gemma2":
        writer.add_sliding_window(config.sliding_window)
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if arch == "phi3":
        original = config.original_max_position_embeddings
        writer.add_rope_dimension_count(int(head_dim * rope["partial_rotary_factor"]))
        writer.add_rope_scaling_orig_ctx_len(original)
        scale = config.max_position_embeddings / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        writer.add_sliding_window(0)
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
    if arch == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    experts = getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if arch == "qwen3moe":
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)

    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], layers)
    stacked = {}
    for name, weight in weights.items():
        if arch in ADJACENT and name.endswith("q_proj.weight"):
            weight = turn_neighbours(weight, config.num_attention_heads)
        if arch in ADJACENT and name.endswith("k_proj.weight"):
            weight = turn_neighbours(weight, config.num_key_value_heads)
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            weight = weight.float() + 1
        if ".experts." in name:
            before, after = name.split(".experts.")
            expert, part = after.removesuffix(".weight").split(".")
            part = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}.get(part, part)
            whole = f"{before.replace('block_sparse_moe', 'mlp')}.experts.{part}.weight"
            stacked.setdefault(whole, {})[int(expert)] = weight
            continue
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), as_stored(name, weight))
    for name, parts in stacked.items():
        weight = torch.stack([parts[i] for i in range(experts)])
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), as_stored(name, weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_stored(name, weight):
    exact = weight.ndim == 1 or name.endswith(("mlp.gate.weight", "block_sparse_moe.gate.weight"))
    return (weight.float() if exact else weight.half()).numpy()


def make(name):
    model_type, arch, options = MODELS[name]
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config = transformers.AutoConfig.for_model(model_type, **{**COMMON, **options})
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomise(model, torch.Generator().manual_seed(2))
    model.half().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)
    if arch:  # of those that a GGUF can say
        write_gguf(folder, config, arch, weights)

    tokens = torch.randint(0, VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(3)).tolist()
    drops = []
    logits = logits_of(folder, tokens, drops)
    logits.astype("<f4").tofile(folder / "expected_logits.f32")
    drop_at = drops or [[j + w if w and j + w < TOKENS else -1 for j in range(TOKENS)] for w in windows(config)]
    expected = {"tokens": tokens, "drop_at": drop_at, "argmax": logits.argmax(-1).tolist()}
    (folder / "expected.json").write_text(json.dumps(expected))
    if name == "phi3":  # a text within the original context
        logits_of(folder, tokens[:config.original_max_position_embeddings]).astype("<f4").tofile(
            folder / "short_logits.f32")
    print(name, "logits up to", float(abs(logits).max()))


if __name__ == "__main__":
    for one in sys.argv[1:] or MODELS:
        make(one)
