# SPDX-License-Identifier: MIT
"""Hugging Face directories of the GPT-2, Llama, Qwen2 and Qwen3 shapes, with or without gates, and gate sidecars."""

import dataclasses
import json
import os
import shutil

import torch

import gates
import model
import safetensors_io

MODEL_FILE = "model.safetensors"
GATES_FILE = "gates.safetensors"
TOKENIZER_FILE = "tokenizer.json"


@dataclasses.dataclass(frozen=True)
class Stored:
    """One tensor of a file and the parameters of `model.Decoder` that it holds, stacked along their rows."""

    name: str
    parameters: tuple
    conv1d: bool = False    # stored [in, out], as GPT-2's Conv1D does


def layout(config):
    """Every `Stored` tensor of a model without its gates."""
    return _gpt2_layout(config) if config.is_gpt2 else _llama_layout(config)


def gate_layout(config):
    """The `Stored` tensors of the gates; the names are the reference implementation's."""
    prefix = "transformer.h.{}.attn." if config.is_gpt2 else "model.layers.{}.self_attn."
    stored = []
    for i in range(config.n_layers):
        ours, theirs = f"blocks.{i}.attention.gate.", prefix.format(i)
        stored += [Stored(theirs + "q_int.weight", (ours + "wq.weight",)),
                   Stored(theirs + "k_int.weight", (ours + "wk.weight",)),
                   Stored(theirs + "int_bias", (ours + "b",))]
    return stored


def _gpt2_layout(config):
    stored = [Stored("transformer.wte.weight", ("embed.weight",)), Stored("transformer.wpe.weight", ("positions.weight",)),
              Stored("transformer.ln_f.weight", ("norm.weight",)), Stored("transformer.ln_f.bias", ("norm.bias",))]
    for i in range(config.n_layers):
        ours, theirs = f"blocks.{i}.", f"transformer.h.{i}."
        qkv = [f"{ours}attention.{w}" for w in ("wq", "wk", "wv")]
        for part in ("weight", "bias"):
            stored += [Stored(f"{theirs}ln_1.{part}", (f"{ours}norm1.{part}",)),
                       Stored(f"{theirs}ln_2.{part}", (f"{ours}norm2.{part}",)),
                       Stored(f"{theirs}attn.c_attn.{part}", tuple(f"{w}.{part}" for w in qkv), part == "weight"),
                       Stored(f"{theirs}attn.c_proj.{part}", (f"{ours}attention.wo.{part}",), part == "weight"),
                       Stored(f"{theirs}mlp.c_fc.{part}", (f"{ours}mlp.w_up.{part}",), part == "weight"),
                       Stored(f"{theirs}mlp.c_proj.{part}", (f"{ours}mlp.w_down.{part}",), part == "weight")]
    return stored


def _llama_layout(config):
    stored = [Stored("model.embed_tokens.weight", ("embed.weight",)), Stored("model.norm.weight", ("norm.weight",))]
    if not config.tied:
        stored.append(Stored("lm_head.weight", ("head.weight",)))
    for i in range(config.n_layers):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        stored += [Stored(theirs + "input_layernorm.weight", (ours + "norm1.weight",)),
                   Stored(theirs + "post_attention_layernorm.weight", (ours + "norm2.weight",)),
                   Stored(theirs + "self_attn.o_proj.weight", (ours + "attention.wo.weight",)),
                   Stored(theirs + "mlp.gate_proj.weight", (ours + "mlp.w_gate.weight",)),
                   Stored(theirs + "mlp.up_proj.weight", (ours + "mlp.w_up.weight",)),
                   Stored(theirs + "mlp.down_proj.weight", (ours + "mlp.w_down.weight",))]
        for w in "qkv":
            for part in ("weight", "bias") if config.family == "qwen2" else ("weight",):
                stored.append(Stored(f"{theirs}self_attn.{w}_proj.{part}", (f"{ours}attention.w{w}.{part}",)))
        for w in "qk" if config.family == "qwen3" else "":
            stored.append(Stored(f"{theirs}self_attn.{w}_norm.weight", (f"{ours}attention.{w}_norm.weight",)))
    return stored


def read_config(folder):
    """`model.Config` of folder/config.json; what the trainer cannot reproduce is refused by name."""
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    return config_from_json(fields, path)


def config_from_json(fields, where):
    """`model.Config` of the fields of a config.json."""
    family = fields.get("model_type")
    if family not in model.FAMILIES:
        raise ValueError(f"{where}: model_type: expected one of {', '.join(model.FAMILIES)}, found {family!r}")
    gate = gates.GateConfig.from_json(fields["drop_gate"], where) if "drop_gate" in fields else None
    end = fields.get("eos_token_id") or 0
    end = end[0] if isinstance(end, list) else end
    if family == "gpt2":
        _expect(fields, where, activation_function=("gelu_new",), scale_attn_by_inverse_layer_idx=(False,),
                add_cross_attention=(False,))
        d, heads = fields["n_embd"], fields["n_head"]
        return model.Config(family, fields["vocab_size"], d, fields["n_layer"], heads, heads, d // heads,
                            fields.get("n_inner") or 4 * d, fields["n_positions"],
                            fields.get("layer_norm_epsilon", 1e-5), end=end, tied=True, gate=gate)
    _expect(fields, where, hidden_act=("silu",), rope_scaling=(None,), use_sliding_window=(False,), mlp_bias=(False,))
    if family != "qwen2":
        _expect(fields, where, attention_bias=(False,))
    rope = fields.get("rope_parameters") or {}                # where newer files say it
    _expect(rope, where + ": rope_parameters", rope_type=("default",))
    d, heads = fields["hidden_size"], fields["num_attention_heads"]
    return model.Config(family, fields["vocab_size"], d, fields["num_hidden_layers"], heads,
                        fields.get("num_key_value_heads") or heads, fields.get("head_dim") or d // heads,
                        fields["intermediate_size"], fields["max_position_embeddings"],
                        fields.get("rms_norm_eps", 1e-6), rope.get("rope_theta", fields.get("rope_theta", 10000.0)),
                        fields.get("tie_word_embeddings", False), end, gate)


def has_gates(folder):
    """Whether a directory brings gates of its own, inside or beside its model."""
    return os.path.isfile(os.path.join(folder, GATES_FILE)) or read_config(folder).gate is not None


def _expect(fields, where, **allowed):
    for name, values in allowed.items():
        if name in fields and fields[name] not in values:
            raise ValueError(f"{where}: {name}: expected {' or '.join(map(repr, values))}, found {fields[name]!r}")


def config_to_json(config, dtype="float16"):
    """The fields of config.json for a `model.Config`."""
    if config.is_gpt2:
        fields = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": config.n_layers,
                  "n_head": config.n_heads, "n_embd": config.d_model, "n_inner": config.d_ff,
                  "n_positions": config.context, "n_ctx": config.context, "layer_norm_epsilon": config.norm_eps,
                  "activation_function": "gelu_new"}
    else:
        name = f"{config.family.capitalize()}ForCausalLM"
        fields = {"model_type": config.family, "architectures": [name], "num_hidden_layers": config.n_layers,
                  "num_attention_heads": config.n_heads, "num_key_value_heads": config.n_kv_heads,
                  "head_dim": config.head_dim, "hidden_size": config.d_model, "intermediate_size": config.d_ff,
                  "max_position_embeddings": config.context, "rms_norm_eps": config.norm_eps,
                  "rope_theta": config.rope_theta, "hidden_act": "silu", "attention_bias": config.family == "qwen2"}
    fields.update(vocab_size=config.vocab_size, tie_word_embeddings=config.tied, bos_token_id=config.end,
                  eos_token_id=config.end, torch_dtype=dtype)
    if config.gate:
        fields["drop_gate"] = config.gate.to_json()
    return fields


def _read_model_tensors(folder):
    """Tensors of model.safetensors, or of the shards that model.safetensors.index.json names."""
    index = os.path.join(folder, MODEL_FILE + ".index.json")
    if not os.path.isfile(index):
        return safetensors_io.read(os.path.join(folder, MODEL_FILE))[0]
    with open(index, encoding="utf-8") as file:
        shards = sorted(set(json.load(file)["weight_map"].values()))
    tensors = {}
    for shard in shards:
        tensors.update(safetensors_io.read(os.path.join(folder, shard))[0])
    return tensors


def load(folder, sidecar=None, gate_config=None, gate_bias=0.0):
    """`model.Decoder` in float32 of a Hugging Face directory.

    Gates come from `sidecar`, else gates.safetensors in the folder, else the model's own file. With `gate_config` the
    model gets new gates, their scalar at gate_bias, whatever it had.
    """
    config, tensors = read_config(folder), _read_model_tensors(folder)
    path = os.path.join(folder, MODEL_FILE)
    beside = os.path.join(folder, GATES_FILE)
    if gate_config is None and (sidecar or os.path.isfile(beside)):
        sidecar = sidecar or beside
        side, metadata = safetensors_io.read(sidecar)
        tensors.update(side)
        if "drop_gate" in metadata:
            config.gate = gates.GateConfig.from_json(json.loads(metadata["drop_gate"]), sidecar)
        elif config.gate is None:
            raise ValueError(f"{sidecar}: expected drop_gate in its metadata or in config.json, found neither")
    config.gate = gate_config or config.gate
    decoder = model.Decoder(config, gate_bias)
    assign(decoder, layout(config), tensors, path)
    if config.gate and gate_config is None:
        assign(decoder, gate_layout(config), tensors, sidecar or path)
    return decoder


def assign(decoder, wanted, tensors, path):
    """Copy name -> tensor into the parameters of `wanted`; `path` is named in errors."""
    own = dict(decoder.named_parameters())
    with torch.no_grad():
        for stored in wanted:
            _assign(own, stored, tensors, path)


def _assign(own, stored, tensors, path):
    name = stored.name
    if name not in tensors:
        name = name.replace("transformer.", "", 1)           # GPT-2 checkpoints of the bare model have no prefix
    if name not in tensors:
        raise ValueError(f"{path}: {stored.name}: expected a tensor, found none")
    tensor = tensors[name].float()
    tensor = tensor.t() if stored.conv1d else tensor
    parts = [own[parameter] for parameter in stored.parameters]
    shape = [sum(part.shape[0] for part in parts), *parts[0].shape[1:]]
    if list(tensor.shape) != shape:
        raise ValueError(f"{path}: {stored.name}: expected shape {shape[::-1] if stored.conv1d else shape}, "
                         f"found {list(tensors[name].shape)}")
    for part, rows in zip(parts, tensor.split([part.shape[0] for part in parts])):
        part.copy_(rows)


def stored_tensors(decoder, wanted, dtype=torch.float16):
    """name -> tensor as files hold it, for some `Stored`s; the gates' scalars stay float32."""
    own, tensors = dict(decoder.named_parameters()), {}
    for stored in wanted:
        tensor = torch.cat([own[parameter].detach() for parameter in stored.parameters])
        tensor = tensor.t().contiguous() if stored.conv1d else tensor
        tensors[stored.name] = tensor.to(torch.float32 if stored.name.endswith("int_bias") else dtype)
    return tensors


def save(decoder, folder, tokenizer=None, dtype=torch.float16, gates_inside=True):
    """Write config.json, generation_config.json, model.safetensors and a copy of `tokenizer` (a path)."""
    os.makedirs(folder, exist_ok=True)
    config = decoder.config
    if not gates_inside:
        config = dataclasses.replace(config, gate=None)
    wanted = layout(config) + (gate_layout(config) if config.gate else [])
    safetensors_io.write(os.path.join(folder, MODEL_FILE), stored_tensors(decoder, wanted, dtype), {"format": "pt"})
    _write_json(os.path.join(folder, "config.json"), config_to_json(config, str(dtype).split(".")[1]))
    _write_json(os.path.join(folder, "generation_config.json"),
                {"bos_token_id": config.end, "eos_token_id": config.end, "do_sample": True, "temperature": 0.8,
                 "top_p": 0.95})
    target = os.path.join(folder, TOKENIZER_FILE)
    if tokenizer and not (os.path.exists(target) and os.path.samefile(tokenizer, target)):
        shutil.copyfile(tokenizer, target)


def save_sidecar(decoder, path, dtype=torch.float16):
    """Write the gates alone, with drop_gate in the metadata so that the file says how it is to be used."""
    metadata = {"format": "pt", "drop_gate": json.dumps(decoder.config.gate.to_json())}
    safetensors_io.write(path, stored_tensors(decoder, gate_layout(decoder.config), dtype), metadata)


def save_run_gates(decoder, folder):
    """The gates as they are now, in float32, as gates.safetensors of a run's folder; a half-written one never shows. Its path."""
    path = os.path.join(folder, GATES_FILE)
    save_sidecar(decoder, path + ".new", torch.float32)
    os.replace(path + ".new", path)
    return path


def _write_json(path, fields):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(fields, file, indent=2)
        file.write("\n")
