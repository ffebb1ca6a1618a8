#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Requests/s, time to the first token, per token and between two of `pith serve`, beside llama.cpp's server where you have it.

    bench/server.py MODEL.gguf --llama .../llama-server --clients 1 8 16 --policy none "snapkv(share=0.25)"

Each server is started, warmed by one request, and asked by so many clients at a time, each with one request after another:
prompts of --prompt random tokens, no two alike, --tokens tokens chosen greedily, streamed. Servers take turns within --rounds.
All of a round's requests count, so that the first, which come together, and the last, which have the machine for themselves,
are among them; a figure is the median over rounds. The longest time between two tokens of a request is what it waits while the
prompts of others are read. For a machine that is not quiet for long, --out adds to a file that
--report makes a table of.
"""
import argparse
import http.client
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Server:
    """A process, and the address that it says it listens at."""

    def __init__(self, command, ready, port=None):
        self.log = tempfile.NamedTemporaryFile(suffix=".log")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        until = time.monotonic() + 120
        while not (found := re.search(ready, pathlib.Path(self.log.name).read_text(errors="replace"))):
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(pathlib.Path(self.log.name).read_text(errors="replace")[-2000:])
            time.sleep(0.02)
        self.port = port or int(found[1])

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def pith(arguments, policy):
    policy, _, chunk = policy.partition(" -b ")
    return Server([arguments.pith, "serve", "-m", arguments.model, "--port", "0", "--kv", arguments.kv, "--policy", policy,
                   "--parallel", "16", "-t", str(arguments.threads), "-c", str(arguments.prompt + arguments.tokens + 8),
                   "--max-body", "4"] + (["-b", chunk] if chunk else []) +
                  (["--gates", arguments.gates] if arguments.gates else []),
                  r"listening on http://127\.0\.0\.1:(\d+)")


def llama(arguments, clients):
    port = random.randrange(20000, 30000)
    each = arguments.prompt + arguments.tokens + 8
    return Server([arguments.llama, "-m", arguments.model, "--host", "127.0.0.1", "--port", str(port), "-t",
                   str(arguments.threads), "-tb", str(arguments.threads), "-np", str(clients), "-c", str(each * clients),
                   "-ctk", arguments.kv, "-ctv", arguments.kv, "--no-webui", "-fa", "on"], r"listening on http", port)


def ask(port, prompt, tokens):
    """Seconds to the first token, per token after it, and the most between two."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    begin = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps({
        "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}),
        {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {response.read()[:500]}")
    times = [time.perf_counter() for line in response if line.startswith(b"data: {")]
    connection.close()
    longest = max((after - before for before, after in zip(times, times[1:])), default=0)
    return times[0] - begin, (times[-1] - times[0]) / (tokens - 1), longest


def kept(port):
    """Of all rows so far, those that were not dropped; none where the server does not say."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    found = re.search(r"^pith_share_forgotten\{.*\} (\S+)$", connection.getresponse().read().decode(), re.MULTILINE)
    connection.close()
    return 1 - float(found[1]) if found else None


def measure(port, arguments, clients, dice):
    requests = max(clients * arguments.each, 3)
    prompts = [[dice.randrange(300, 40000) for _ in range(arguments.prompt)] for _ in range(requests)]
    left, found, lock = list(prompts), [], threading.Lock()

    def client():
        while True:
            with lock:
                if not left:
                    return
                prompt = left.pop()
            result = ask(port, prompt, arguments.tokens)
            with lock:
                found.append(result)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    firsts, per_token, longest = (sorted(column) for column in zip(*found))
    at = lambda values, share: values[min(len(values) - 1, int(share * len(values)))]
    return {"requests_per_s": requests / seconds, "first_p50": at(firsts, 0.5), "first_p95": at(firsts, 0.95),
            "token_p50": at(per_token, 0.5), "token_p95": at(per_token, 0.95), "gap_p50": at(longest, 0.5),
            "kept": kept(port)}


def report(paths):
    rows = {}
    for path in paths:
        for line in open(path):
            one = json.loads(line)
            rows.setdefault((one["clients"], one["server"]), []).append(one)
    print("| clients | server | kept | rounds | requests/s | first token, s: p50 | p95 | per token, ms: p50 | p95 | longest wait, ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (clients, server), ones in sorted(rows.items()):
        median = lambda name, scale=1: f"{scale * statistics.median(one[name] for one in ones):.3g}"
        rates = [one["requests_per_s"] for one in ones]
        share = "" if ones[0]["kept"] is None else f"{statistics.median(one['kept'] for one in ones):.0%}"
        print(f"| {clients} | {server} | {share} | {len(ones)} | {median('requests_per_s')} ({min(rates):.3g} to {max(rates):.3g}) | "
              f"{median('first_p50')} | {median('first_p95')} | {median('token_p50', 1000)} | {median('token_p95', 1000)} | "
              f"{median('gap_p50', 1000)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--report", nargs="+", metavar="FILE")
    parser.add_argument("--pith", default=os.environ.get("PITH_TOOL", ROOT / "build/release/bin/pith"))
    parser.add_argument("--gates")
    parser.add_argument("--llama", help="llama-server")
    parser.add_argument("--policy", nargs="*", default=["none", "snapkv(share=0.25)"],
                        help='each a server of its own; "none -b 256" has chunks of its own, too')
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 16])
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--each", type=int, default=2, help="requests for each client")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kv", default="f16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="file of JSON lines to add to")
    arguments = parser.parse_args()
    if arguments.report:
        return report(arguments.report)
    dice = random.Random(arguments.seed)
    for _ in range(arguments.rounds):
        for clients in arguments.clients:
            starts = {f"pith, {policy}": lambda policy=policy: pith(arguments, policy) for policy in arguments.policy}
            if arguments.llama:
                starts["llama.cpp"] = lambda: llama(arguments, clients)
            for name, start in starts.items():
                server = start()
                try:
                    ask(server.port, [dice.randrange(300, 40000) for _ in range(64)], 4)
                    result = {"server": name, "clients": clients, **measure(server.port, arguments, clients, dice)}
                finally:
                    server.close()
                line = json.dumps(result)
                print(line, flush=True)
                if arguments.out:
                    with open(arguments.out, "a") as out:
                        out.write(line + "\n")


if __name__ == "__main__":
    main()
