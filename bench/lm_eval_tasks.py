# SPDX-License-Identifier: MIT
"""lm_eval_tasks.py DATA OUT: LAMBADA, HellaSwag, PIQA and WinoGrande as tasks of lm-evaluation-harness that need no network.

Reads lambada/lambada_test.jsonl, hellaswag/hellaswag_val_full.txt.bz2 (six lines a question), piqa/valid.jsonl with its
labels, and winogrande/llm-adapters_test.json below DATA; writes data and tasks, worded as the harness words its own, to
OUT. To be given as `--include_path OUT --tasks local_lambada,local_hellaswag,local_piqa,local_winogrande`.
"""

import bz2
import json
import pathlib
import re
import sys

TASK = """\
task: local_{name}
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {file}
validation_split: validation
output_type: {kind}
doc_to_text: {text}
doc_to_target: {target}
{choices}metric_list:
{metrics}
metadata:
  version: 1.0
"""
METRIC = "  - metric: {}\n    aggregation: mean\n    higher_is_better: true"


def lambada(data):
    for line in (data / "lambada/lambada_test.jsonl").read_text().splitlines():
        text = json.loads(line)["text"]
        before, _, last = text.rpartition(" ")
        yield {"query": before, "target": " " + last}


def clean(text):
    """HellaSwag's questions from WikiHow have headings in brackets."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag(data):
    lines = bz2.decompress((data / "hellaswag/hellaswag_val_full.txt.bz2").read_bytes()).decode().splitlines()
    for i in range(0, len(lines) - 5, 6):
        yield {
            "query": clean(lines[i]),
            "choices": [clean(ending) for ending in lines[i + 2 : i + 6]],
            "gold": int(lines[i + 1]),
        }


def piqa(data):
    questions = (data / "piqa/valid.jsonl").read_text().splitlines()
    labels = (data / "piqa/valid-labels.lst").read_text().split()
    for line, label in zip(questions, labels, strict=True):
        one = json.loads(line)
        yield {"query": f"Question: {one['goal']}\nAnswer:", "choices": [one["sol1"], one["sol2"]], "gold": int(label)}


def winogrande(data):
    """The sentence up to and with each option is the context, what follows is scored: the query is the answer's number,
    the target the sentence's end, as the harness has it for this task."""
    for one in json.loads((data / "winogrande/llm-adapters_test.json").read_text()):
        sentence, options = re.search(
            r"given sentence: (.*)\n\nOption1: (.*) Answer format", one["instruction"], re.DOTALL
        ).groups()
        first, second = options.split(" Option2: ")
        before, after = sentence.split("_", 1)
        yield {
            "gold": int(one["answer"][-1]) - 1,
            "choices": [before + first, before + second],
            "query": after.strip(),
        }


def main():
    data, out = map(pathlib.Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    for read in (lambada, hellaswag, piqa, winogrande):
        name = read.__name__
        file = (out / f"{name}.jsonl").resolve()
        file.write_text("".join(json.dumps(one) + "\n" for one in read(data)))
        multiple = name != "lambada"
        text, target = ("'{{query}}'", "gold") if multiple else ("'{{query}}'", "'{{target}}'")
        if name == "winogrande":
            text, target = "gold", "'{{query}}'"
        metrics = ["acc", "acc_norm"] if name in ("hellaswag", "piqa") else ["acc"]
        (out / f"{name}.yaml").write_text(
            TASK.format(
                name=name,
                file=file,
                kind="multiple_choice" if multiple else "loglikelihood",
                text=text,
                target=target,
                choices="doc_to_choice: choices\n" if multiple else "",
                metrics="\n".join(METRIC.format(one) for one in metrics),
            )
        )


if __name__ == "__main__":
    main()
