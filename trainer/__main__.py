#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train drop gates: prepare, pretrain, gates, local, distil, evaluate, strengths, compare, agree, export, convert, worth, plot."""

import argparse
import json
import math
import os
import signal
import sys

try:
    import torch
except ImportError:
    sys.exit("this program needs PyTorch (1.13 or later): the package python3-torch, or `pip install torch`")

import adapt
import agree
import checkpoint
import compare
import convert
import data
import distil
import evaluate
import gates
import local
import mixture
import plots
import pretrain
import strengths
import tokenizer as bpe
import trainer
import worth

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}


def stage(text):
    """`LENGTH@BEGIN` -> (tokens, progress in [0, 1))."""
    length, _, begin = text.partition("@")
    return int(length), float(begin or 0)


def strength(text):
    """tau, of which `dense` is the weakest: nothing is dropped."""
    return -math.inf if text == "dense" else float(text)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="trainer", description=__doc__)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, action, text):
        sub = commands.add_parser(name, help=text, description=text,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.set_defaults(action=action)
        return sub

    def training(sub, steps, rate):
        sub.add_argument("--data", required=True, help="folder made by `prepare`")
        sub.add_argument("--out", required=True, help="folder of the run: state.pt, log.jsonl, model/")
        sub.add_argument("--steps", type=int, default=steps)
        sub.add_argument("--rate", type=float, default=rate, help="peak learning rate")
        sub.add_argument("--recall-share", type=float, default=0.2, help="part of the windows that are recall documents")
        sub.add_argument("--seed", type=int, default=1)
        sub.add_argument("--device", help="cpu, cuda ... (default: cuda where there is one)")
        sub.add_argument("--bf16", action="store_true", default=None, help="autocast to bfloat16 (always on with CUDA)")

    def frozen(sub, steps, rate):
        training(sub, steps, rate)
        sub.add_argument("--model", required=True, help="Hugging Face directory (gpt2, llama, qwen2, qwen3)")
        sub.add_argument("--f32", dest="bf16", action="store_false", default=None,
                         help="multiply in float32 even where the processor is fast at bfloat16")
        sub.add_argument("--length", type=int, default=1024, help="tokens a window")
        sub.add_argument("--batch", type=int, default=2, help="windows a step")
        sub.add_argument("--workers", type=int, default=2, help="windows worked on side by side, each by one thread")

    sub = command("prepare", run_prepare, "texts -> tokenizer.json and packed token files")
    sub.add_argument("texts", nargs="+", help="folders or files to train on")
    sub.add_argument("--heldout", nargs="*", default=[], help="folders or files for evaluation only")
    sub.add_argument("--out", required=True)
    sub.add_argument("--vocabulary", type=int, default=2048, help="ids of the tokenizer to learn")
    sub.add_argument("--tokenizer", help="use this tokenizer.json instead of learning one")
    sub.add_argument("--megabytes", type=float, default=1e6, help="training text to pack, whole books in random order")
    sub.add_argument("--sample", type=float, default=12.0, help="megabytes the tokenizer is learned from")

    sub = command("mix", run_mix, "excerpts of many books, conversations made from them, and other texts, for gates over a chat model")
    sub.add_argument("books", nargs="+", help="folders or files of text")
    sub.add_argument("--tokenizer", required=True, help="tokenizer.json of the model")
    sub.add_argument("--out", required=True)
    sub.add_argument("--as-is", nargs="*", default=[], metavar="FILE", help="texts that are packed as they are")
    sub.add_argument("--most", type=int, default=420, help="books that are used")
    sub.add_argument("--excerpt", type=int, default=18000, help="characters of each")
    sub.add_argument("--conversations", type=int, default=2, help="about each")
    sub.add_argument("--seed", type=int, default=1)

    sub = command("pretrain", run_pretrain, "a small Llama-shaped model from scratch")
    training(sub, 5000, 2e-3)
    sub.add_argument("--start", choices=pretrain.STARTS, default="planted",
                     help="planted: the first two layers begin where copying from context is about to work")
    sub.add_argument("--width", type=int, default=128)
    sub.add_argument("--layers", type=int, default=5)
    sub.add_argument("--heads", type=int, default=4)
    sub.add_argument("--kv-heads", type=int, default=2)
    sub.add_argument("--batch", type=int, default=2048, help="tokens a step")
    sub.add_argument("--echo", type=float, nargs=2, default=[0.5, 0.05], metavar=("FIRST", "LAST"),
                     help="part of the windows that say a span again and again, at the start and later")
    sub.add_argument("--stages", type=stage, nargs="+", default=[(128, 0.0), (256, 0.15), (512, 0.45), (1024, 0.7)],
                     metavar="LENGTH@BEGIN", help="context length from each point of the run on")

    sub = command("gates", run_gates, "add gates to a Hugging Face directory and train them")
    training(sub, 600, 3e-4)
    sub.add_argument("--model", required=True, help="Hugging Face directory (gpt2, llama, qwen2)")
    sub.add_argument("--train", choices=adapt.TRAINED, default="gates",
                     help="all: the whole model on the text; gates: only them, distilled from the dense model; "
                          "dense: the whole model without gates, the control of all")
    sub.add_argument("--go-on", action="store_true", help="start from the gates that the model has")
    sub.add_argument("--dim", type=int, default=64, help="rows of the gate's projections")
    sub.add_argument("--recent", type=int, default=1, help="a token cannot be dropped before this many later ones")
    sub.add_argument("--sinks", type=int, default=0, help="the first tokens of a text that are never dropped")
    sub.add_argument("--gamma", type=float, default=1.0, help="weight of the sparsity loss, nats")
    sub.add_argument("--keep", type=float, default=0.1, help="kept fraction, mean over queries and layers, at which it ends")
    sub.add_argument("--bias", type=float, default=1.9, help="the gates' scalar at the start; > 0 starts almost dense")
    sub.add_argument("--alpha", type=float, nargs=2, default=[1.5, 8.0], metavar=("FIRST", "LAST"))
    sub.add_argument("--step-phase", type=float, default=0.2, help="part of the steps run at step gates (--train all)")
    sub.add_argument("--step-taus", type=strength, nargs="+", default=[0.0], metavar="TAU",
                     help="strengths that those steps take turns in, numbers or `dense`")
    sub.add_argument("--length", type=int, default=1024, help="tokens a window")
    sub.add_argument("--batch", type=int, default=4, help="windows a step")
    sub.add_argument("--gate-rate", type=float, default=4e-3, help="peak learning rate of the gates")

    sub = command("local", run_local, "gates of a frozen model, layer by layer, in one dense pass over a stream of text")
    frozen(sub, 300, 2e-3)
    sub.add_argument("--dim", type=int, default=64, help="rows of a gate's projections")
    sub.add_argument("--recent", type=int, default=8, help="a token cannot be dropped before this many later ones")
    sub.add_argument("--sinks", type=int, default=4, help="the first tokens of a text that are never dropped")
    sub.add_argument("--scope", choices=gates.SCOPES, default="layer", help="one gate a layer, or one for each of its kv-heads")
    sub.add_argument("--bias", type=float, default=5.0, help="the gates' scalar at the start; > 0 starts almost dense")
    sub.add_argument("--gates", help="sidecar to begin with, of the same --dim; one for each layer begins one for each kv-head")
    sub.add_argument("--objective", choices=local.OBJECTIVES, default="attention")
    sub.add_argument("--price", type=float, default=0.03, help="of a kept pair, in attention or relative squared error")
    sub.add_argument("--sharpness", type=float, nargs=2, default=[1.0, 4.0], metavar=("FIRST", "LAST"))

    sub = command("distil", run_distil, "gates of a frozen model, end to end, with hard decisions; sets what each layer keeps")
    frozen(sub, 300, 5e-4)
    sub.add_argument("--gates", help="sidecar to start from (default: the model's own)")
    sub.add_argument("--keep", type=float, nargs="+", default=[0.25, 0.5, 0.12],
                     help="fractions of all causal pairs to learn for, by turns; the first is that of tau 0 afterwards")
    sub.add_argument("--sharpness", type=float, default=1.0, help="of the sigmoid whose slope stands for the step's")
    sub.add_argument("--bias-speed", type=float, default=10.0,
                     help="rate of the gates' scalars, which settle what each keeps, against that of their matrices")
    sub.add_argument("--recent", type=int, help="a token cannot be dropped before this many later ones (default: as it was)")
    sub.add_argument("--sinks", type=int, help="the first tokens of a text that are never dropped (default: as it was)")

    sub = command("evaluate", run_evaluate, "perplexity, kept fraction and recall of the masked full forward")
    sub.add_argument("--model", required=True)
    sub.add_argument("--gates", help="sidecar file")
    sub.add_argument("--mode", choices=evaluate.MODES, help="default: gate if the model has gates, else dense")
    sub.add_argument("--tau", type=float, default=0.0, help="gate strength, added to the model's threshold")
    sub.add_argument("--keep", type=float, default=0.2, help="kept fraction of --mode window")
    sub.add_argument("--text", help="a text file, tokenised as it is")
    sub.add_argument("--tokens", help="a packed token file of `prepare`")
    sub.add_argument("--length", type=int, default=1024, help="tokens a window")
    sub.add_argument("--windows", type=int, help="use this many windows, spread over the text")
    sub.add_argument("--recall", type=int, default=0, metavar="DOCUMENTS", help="measure recall in prose of the text, too")
    sub.add_argument("--device")

    sub = command("strengths", run_strengths, "perplexity at kept fractions, beside windows that keep as many pairs")
    sub.add_argument("--model", required=True)
    sub.add_argument("--gates", help="sidecar file")
    sub.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.25, 0.12], help="fractions of all causal pairs")
    sub.add_argument("--taus", type=float, nargs="+", help="strengths to measure instead")
    sub.add_argument("--calibrate", help="a packed token file of `prepare` on which the taus are found (default: each text)")
    sub.add_argument("--tokens", nargs="*", default=[], metavar="FILE", help="packed token files of `prepare`")
    sub.add_argument("--text", nargs="*", default=[], metavar="FILE", help="text files, tokenised as they are")
    sub.add_argument("--length", type=int, default=1024, help="tokens a window")
    sub.add_argument("--windows", type=int, default=20, help="windows, spread over each text")
    sub.add_argument("--device")

    sub = command("compare", run_compare, "gates, dense, windows and training-free policies: a table and a picture")
    sub.add_argument("--model", required=True, help="directory with gates")
    sub.add_argument("--gates", nargs="*", default=[], metavar="FILE", help="sidecars beside the model's own gates")
    sub.add_argument("--control", metavar="DIR",
                     help="the dense model that it is held against (default: itself without its gates)")
    sub.add_argument("--frozen", metavar="DIR", help="a second one, whose gates left the model as it was")
    sub.add_argument("--tokens", required=True, help="a packed token file of `prepare`")
    sub.add_argument("--text", nargs="*", default=[], metavar="FILE", help="more texts, tokenised as they are")
    sub.add_argument("--pith", metavar="COMMAND", help="the pith command, which runs the training-free policies")
    sub.add_argument("--out", required=True, help="folder for compare.json, compare.md, compare.svg")
    sub.add_argument("--length", type=int, default=1024, help="tokens a window")
    sub.add_argument("--windows", type=int, default=60, help="windows, spread over each text")
    sub.add_argument("--recall", type=int, default=60, metavar="DOCUMENTS")
    sub.add_argument("--taus", type=float, nargs="*", default=[-0.2, -0.1, 0.1, 0.2],
                     help="run-time strengths of the model's own gates")
    sub.add_argument("--device")

    sub = command("agree", run_agree, "whether `pith perplexity` finds what `evaluate` does; exit status 1 where not")
    sub.add_argument("--model", required=True, help="exported directory")
    sub.add_argument("--gates", nargs="*", default=[], metavar="FILE", help="sidecars beside the model's own gates")
    sub.add_argument("--text", required=True, metavar="FILE")
    sub.add_argument("--pith", required=True, metavar="COMMAND")
    sub.add_argument("--length", type=int, default=1024, help="tokens a window")
    sub.add_argument("--taus", type=float, nargs="*", default=[0.0], help="run-time strengths of each set of gates")
    sub.add_argument("--double", action="store_true",
                     help="the first --length tokens in float64 instead: every drop and every logit of `pith eval`")

    sub = command("export", run_export, "a Hugging Face directory, or a sidecar with the gates alone")
    sub.add_argument("--model", required=True, help="model/ of a run")
    sub.add_argument("--gates", help="sidecar whose gates to take")
    sub.add_argument("--out", required=True, help="a directory, or a file that ends in .safetensors for the gates alone")
    sub.add_argument("--tau", type=float, default=0.0, help="strength to add to the gates' threshold")
    sub.add_argument("--recent", type=int, help="a token cannot be dropped before this many later ones (default: as it was)")
    sub.add_argument("--sinks", type=int, help="the first tokens of a text that are never dropped (default: as it was)")
    sub.add_argument("--dtype", choices=DTYPES, default="f16")
    sub.add_argument("--without-gates", action="store_true", help="leave the gates out of the directory")

    sub = command("convert", run_convert, "a .pt checkpoint of the paper's public implementation -> directory")
    sub.add_argument("checkpoint")
    sub.add_argument("--out", required=True)
    sub.add_argument("--heads", type=int, default=12, help="attention heads; the file does not tell")
    sub.add_argument("--tokenizer", help="tokenizer.json to copy beside it")
    sub.add_argument("--dtype", choices=DTYPES, default="f16")

    sub = command("worth", run_worth, "gates on a token's own state, for the policy worth_gate: fitted, or out of Fast KVzip's file")
    sub.add_argument("--out", required=True, help="the safetensors file to write")
    sub.add_argument("--fast-kvzip", metavar="FILE", help="the authors' .pt, instead of a fit")
    sub.add_argument("--model", help="Hugging Face directory (gpt2, llama, qwen2, qwen3)")
    sub.add_argument("--tokens", metavar="FILE", help="a packed token file of `prepare`")
    sub.add_argument("--length", type=int, default=512, help="tokens a window, each read twice")
    sub.add_argument("--windows", type=int, default=60)
    sub.add_argument("--price", type=float, default=1e-3, help="of the gates' size, in the mean square of an input")
    sub.add_argument("--seed", type=int, default=1)

    sub = command("plot", run_plot, "draw the curves of a run")
    sub.add_argument("run", help="folder of the run")
    sub.add_argument("--out", help="PNG file (default: curves.png in the folder)")
    return parser.parse_args(arguments)


def run_prepare(args):
    summary = data.prepare(args.texts, args.heldout, args.out, args.vocabulary, args.megabytes, args.sample,
                           args.tokenizer)
    print(json.dumps(summary))


def run_mix(args):
    print(json.dumps(mixture.mix(args.books, args.as_is, args.tokenizer, args.out, most=args.most, excerpt=args.excerpt,
                                 conversations=args.conversations, seed=args.seed)))


def run_pretrain(args):
    decoder = pretrain.pretrain(
        args.data, args.out, d_model=args.width, n_layers=args.layers, n_heads=args.heads, n_kv_heads=args.kv_heads,
        stages=args.stages, steps=args.steps, batch_tokens=args.batch, rate=args.rate, recall_share=args.recall_share,
        echo=args.echo, start=args.start, seed=args.seed, device=args.device, bf16=args.bf16)
    save_run(decoder, args)


def run_gates(args):
    gate = None if args.go_on or args.train == "dense" else gates.GateConfig(args.dim, 0.0, args.recent, sinks=args.sinks)
    decoder = adapt.adapt(
        args.model, args.data, args.out, train=args.train, gate=gate, bias=args.bias, gamma=args.gamma, keep=args.keep,
        steps=args.steps, step_phase=args.step_phase, length=args.length, batch_size=args.batch, rate=args.rate,
        gate_rate=args.gate_rate, alphas=tuple(args.alpha), step_taus=args.step_taus,
        recall_share=args.recall_share, seed=args.seed, device=args.device, bf16=args.bf16)
    save_run(decoder, args)


def run_local(args):
    decoder = local.train(
        args.model, args.data, args.out, gate=gates.GateConfig(args.dim, 0.0, args.recent, args.scope, args.sinks), bias=args.bias,
        sidecar=args.gates, objective=args.objective, price=args.price, steps=args.steps, length=args.length, batch_size=args.batch,
        rate=args.rate, sharpness=tuple(args.sharpness), recall_share=args.recall_share, workers=args.workers,
        seed=args.seed, device=args.device, bf16=args.bf16)
    print(checkpoint.save_run_gates(decoder, args.out))


def run_distil(args):
    decoder = distil.train(
        args.model, args.data, args.out, sidecar=args.gates, keeps=args.keep, steps=args.steps,
        length=args.length, batch_size=args.batch, rate=args.rate, sharpness=args.sharpness,
        recall_share=args.recall_share, bias_speed=args.bias_speed, recent=args.recent, sinks=args.sinks,
        workers=args.workers, seed=args.seed, device=args.device, bf16=args.bf16)
    print(checkpoint.save_run_gates(decoder, args.out))


def save_run(decoder, args):
    """The trained model in float32 as model/ of the run's folder."""
    folder = os.path.join(args.out, "model")
    checkpoint.save(decoder, folder, os.path.join(args.data, "tokenizer.json"), torch.float32)
    print(folder)


def run_evaluate(args):
    if bool(args.text) == bool(args.tokens):
        sys.exit("evaluate: expected one of --text and --tokens")
    decoder = checkpoint.load(args.model, args.gates).to(trainer.pick_device(args.device))
    vocab = bpe.load(os.path.join(args.model, checkpoint.TOKENIZER_FILE)) if args.text or args.recall else None
    if args.text:
        with open(args.text, encoding="utf-8") as file:
            tokens = vocab.encode(file.read())
    else:
        tokens = data.open_tokens(args.tokens)
    mode = args.mode or ("gate" if decoder.config.gate else "dense")
    judge = evaluate.Judge(decoder, mode, tau=args.tau, recent=evaluate.window_for(args.length, args.keep))
    result = evaluate.perplexity(judge, tokens, args.length, args.windows)
    if args.recall:
        result["recall"] = evaluate.recall_accuracy(judge, vocab, tokens, args.length, args.recall)
    print(json.dumps(result))


def run_strengths(args):
    vocab = bpe.load(os.path.join(args.model, checkpoint.TOKENIZER_FILE)) if args.text else None
    texts = {path: data.open_tokens(path) for path in args.tokens}
    for path in args.text:
        with open(path, encoding="utf-8") as file:
            texts[path] = vocab.encode(file.read())
    decoder = checkpoint.load(args.model, args.gates).freeze().to(trainer.pick_device(args.device))
    calibration = data.open_tokens(args.calibrate) if args.calibrate else None
    rows = strengths.measure(decoder, texts, args.keep, args.taus, calibration, args.length, args.windows,
                             lambda row: print(json.dumps(row), file=sys.stderr))
    print(strengths.table(rows))


def gates_of(args):
    """name -> sidecar file, None for the model's own if it has some."""
    own = {"gates": None} if checkpoint.has_gates(args.model) else {}
    found = {**own, **{os.path.basename(path).rpartition(".")[0]: path for path in args.gates}}
    if not found:
        raise ValueError(f"{args.model}: expected a model with gates or --gates, found neither")
    return found


def run_compare(args):
    vocab = bpe.load(os.path.join(args.model, checkpoint.TOKENIZER_FILE))
    texts = {"held-out books": data.open_tokens(args.tokens)}
    for path in args.text:
        with open(path, encoding="utf-8") as file:
            texts[os.path.basename(path)] = vocab.encode(file.read())
    measures = compare.Measures(vocab, texts, args.length, args.windows, args.recall)
    comparison = compare.Comparison(measures, args.pith, trainer.pick_device(args.device),
                                    lambda row: print(row["name"], f"{row['nll']:.4f}", file=sys.stderr))
    family = compare.Family("trained" if args.control else "base", args.control or args.model,
                            {name: (args.model, path) for name, path in gates_of(args).items()})
    comparison.add_family(family)
    comparison.add_strengths(family, args.taus)
    comparison.add_windows(family)
    if args.frozen:
        comparison.add_family(compare.Family("frozen", args.frozen, {"gates": (args.frozen, None)}))
    compare.save(comparison.rows, args.out)
    print(compare.table(comparison.rows))


def run_agree(args):
    with open(args.text, encoding="utf-8") as file:
        tokens = bpe.load(os.path.join(args.model, checkpoint.TOKENIZER_FILE)).encode(file.read())
    sets = [(name, path, tau) for name, path in gates_of(args).items() for tau in args.taus]
    if args.double:
        rows = [agree.exactly(args.pith, args.model, path, tau, tokens[:args.length], name) for name, path, tau in sets]
        print(agree.exact_table(rows))
    else:
        rows = [agree.check(args.pith, args.model, path, tau, args.text, tokens, args.length, name) for name, path, tau in sets]
        print(agree.table(rows))
    if not all(row["agrees"] for row in rows):
        sys.exit(1)


def run_export(args):
    decoder = checkpoint.load(args.model, args.gates)
    if decoder.config.gate:
        decoder.config.gate.threshold += args.tau
        decoder.config.gate.spare(args.recent, args.sinks)
    if args.out.endswith(".safetensors"):
        checkpoint.save_sidecar(decoder, args.out, DTYPES[args.dtype])
    else:
        checkpoint.save(decoder, args.out, os.path.join(args.model, checkpoint.TOKENIZER_FILE), DTYPES[args.dtype],
                        gates_inside=not args.without_gates)


def run_convert(args):
    convert.convert(args.checkpoint, args.out, n_heads=args.heads, tokenizer=args.tokenizer, dtype=DTYPES[args.dtype])


def run_worth(args):
    if args.fast_kvzip:
        print(worth.save(worth.from_fast_kvzip(args.fast_kvzip), args.out))
        return
    if not args.model or not args.tokens:
        sys.exit("worth: expected --model and --tokens, or --fast-kvzip")
    decoder = checkpoint.load(args.model)
    request = torch.tensor(bpe.load(os.path.join(args.model, checkpoint.TOKENIZER_FILE)).encode(worth.REPEAT))

    def tell(window, parts):
        print(f"window {window}: explained {sum(parts) / len(parts):.3f}", flush=True)

    windows = worth.draw(data.open_tokens(args.tokens), args.length, args.windows, args.seed)
    print(worth.save(worth.fit(decoder, windows, request, args.price, tell), args.out))


def run_plot(args):
    plots.draw(args.run, args.out or os.path.join(args.run, "curves.png"))


def main(arguments=None):
    args = parse(arguments)
    trainer.tune_allocator()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        args.action(args)
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"trainer {args.command}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
