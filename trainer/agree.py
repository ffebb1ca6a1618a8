# SPDX-License-Identifier: MIT
"""Does the program that runs a model measure what the program that trained it measures?"""

import checkpoint
import deployed
import evaluate

PERPLEXITY = 1e-3    # relative difference that is agreement
KEPT = 2e-3          # difference of the kept fraction of all pairs


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


def table(rows):
    """The rows as a Markdown table."""
    lines = ["| | tau | tokens | perplexity: pith | evaluate | kept of pairs: pith | evaluate | |", "|---" * 8 + "|"]
    for row in rows:
        lines.append(f"| {row['name']} | {row['tau']:g} | {row['tokens']} | {row['perplexity']:.4f} "
                     f"| {row['evaluate_perplexity']:.4f} | {row['kept']:.4f} | {row['evaluate_kept']:.4f} "
                     f"| {'agrees' if row['agrees'] else 'DIFFERS'} |")
    return "\n".join(lines)
