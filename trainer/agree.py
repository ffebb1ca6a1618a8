# SPDX-License-Identifier: MIT
"""Does the program that runs a model measure what the program that trained it measures?"""

import torch

import checkpoint
import deployed
import evaluate
import gates
import model

PERPLEXITY = 1e-3    # relative difference that is agreement
KEPT = 2e-3          # difference of the kept fraction of all pairs
LOGITS = 2e-4        # difference of a logit, relative to the largest of its row


def check(pith, folder, sidecar, tau, text, tokens, length, name):
    """`pith perplexity` of the file `text` against `evaluate` of its `tokens`, windows of `length`: a dict."""
    words = ["--gates", sidecar] if sidecar else []
    found = deployed.call(pith, "perplexity", "-m", folder, *words, "--policy", "gate", "--tau", tau, "-f", text, "-c",
                          length)
    judge = evaluate.Judge(checkpoint.load(folder, sidecar), "gate", tau=tau)
    truth = evaluate.perplexity(judge, tokens, length)
    apart = found["perplexity"] / truth["perplexity"] - 1.0
    return {"name": name, "tau": tau, "tokens": found["tokens"], "perplexity": found["perplexity"],
            "evaluate_perplexity": truth["perplexity"], "kept": found["kept"], "evaluate_kept": truth["kept_pairs"],
            "agrees": found["tokens"] == truth["tokens"] and abs(apart) <= PERPLEXITY
            and abs(found["kept"] - truth["kept_pairs"]) <= KEPT}


@torch.no_grad()
def exactly(pith, folder, sidecar, tau, tokens, name):
    """`pith eval` against a masked full forward in float64, over one window of ids: drop by drop and logit by logit. A dict."""
    ids = torch.as_tensor(tokens, dtype=torch.int64)
    logits, drops = deployed.Deployed(pith, folder, f"gate(tau={tau})", gates=sidecar).window(ids)
    decoder = checkpoint.load(folder, sidecar).double()
    truth, gone = decoder(ids[None], model.Visibility(threshold=decoder.config.gate.threshold + tau))
    expected = torch.cat([gates.drop_at(layer)[0] for layer in gone])
    found = torch.cat([torch.tensor(layer).reshape(-1, len(ids)) for layer in drops])
    apart = ((logits.double() - truth[0]).abs().amax(1) / truth[0].abs().amax(1)).max().item()
    same = (found == expected).sum().item()
    return {"name": name, "tau": tau, "tokens": len(ids), "dropped": (expected >= 0).sum().item(), "keys": expected.numel(),
            "same": same, "logits_apart": apart, "agrees": same == expected.numel() and apart <= LOGITS}


def exact_table(rows):
    """The rows of `exactly` as a Markdown table."""
    lines = ["| | tau | tokens | keys | dropped | same drop | logits apart | |", "|---" * 8 + "|"]
    lines += [f"| {row['name']} | {row['tau']:g} | {row['tokens']} | {row['keys']} | {row['dropped']} | {row['same']} "
              f"| {row['logits_apart']:.1e} | {'agrees' if row['agrees'] else 'DIFFERS'} |" for row in rows]
    return "\n".join(lines)


def table(rows):
    """The rows as a Markdown table."""
    lines = ["| | tau | tokens | perplexity: pith | evaluate | kept of pairs: pith | evaluate | |", "|---" * 8 + "|"]
    for row in rows:
        lines.append(f"| {row['name']} | {row['tau']:g} | {row['tokens']} | {row['perplexity']:.4f} "
                     f"| {row['evaluate_perplexity']:.4f} | {row['kept']:.4f} | {row['evaluate_kept']:.4f} "
                     f"| {'agrees' if row['agrees'] else 'DIFFERS'} |")
    return "\n".join(lines)
