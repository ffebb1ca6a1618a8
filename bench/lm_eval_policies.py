# SPDX-License-Identifier: MIT
"""lm_eval_policies.py MODEL GATES TASKS RESULTS LIMIT: LAMBADA, HellaSwag, PIQA and WinoGrande under policies.

TASKS is what lm_eval_tasks.py wrote. Questions have examples before them, so that contexts have 260 to 410 tokens on average, of
which policies can keep a half, a quarter or a tenth. What is answered goes to RESULTS and is not asked again: the program
may be ended at any time, and be given a higher LIMIT. Writes the table, as far as there is one, to stdout.
"""

import json
import pathlib
import statistics
import sys

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from pith.lm_eval import PithLM

EXAMPLES = {"local_lambada": 4, "local_hellaswag": 5, "local_piqa": 8, "local_winogrande": 12}
POLICIES = {"dense": "none"}
for share, tau, recent in ((0.5, -9, 171), (0.25, 0, 84), (0.1, 6, 31)):
    POLICIES |= {
        f"gate, tau {tau}": f"gate(tau={tau})",
        f"layer_defensivekv, {share:.0%}": f"layer_defensivekv(share={share};window=8)",
        f"snapkv, {share:.0%}": f"snapkv(share={share};window=8)",
        f"h2o, {share:.0%}": f"h2o(share={share};recent=16)",
        f"streaming, {recent + 4} rows": f"streaming(sinks=4;recent={recent})",
    }


def ask(model, gates, tasks, folder, task, policy, limit):
    """Accuracy and what was kept, of the first questions of a task."""
    path = folder / f"{task}-{limit}.json"
    if not path.exists():
        lm = PithLM(model, gates=gates, policy=policy, kv="f16", threads=1, batch_size=8)
        kept = folder / f"{task}.kept"  # of what was asked before, which the cache answers
        shares = json.loads(kept.read_text()) if kept.exists() else []
        found = simple_evaluate(
            model=lm,
            tasks=[task],
            num_fewshot=EXAMPLES[task],
            limit=limit,
            task_manager=tasks,
            bootstrap_iters=0,
            use_cache=str(folder / "answers"),
        )
        shares += lm.kept
        kept.write_text(json.dumps(shares))
        result = {"accuracy": found["results"][task]["acc,none"], "kept": statistics.mean(shares)}
        path.write_text(json.dumps(result))
    return json.loads(path.read_text())


def main():
    model, gates, tasks, results, limit = sys.argv[1:6]
    manager = TaskManager(include_path=tasks, include_defaults=False)
    print("| | " + " | ".join(task.removeprefix("local_") for task in EXAMPLES) + " |")
    print("|---" * (len(EXAMPLES) + 1) + "|")
    for name, policy in POLICIES.items():
        folder = pathlib.Path(results, name)
        folder.mkdir(parents=True, exist_ok=True)
        found = [ask(model, gates, manager, folder, task, policy, int(limit)) for task in EXAMPLES]
        cells = [f"{one['accuracy']:.1%} ({one['kept']:.0%} kept)" for one in found]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
