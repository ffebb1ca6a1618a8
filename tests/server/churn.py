# SPDX-License-Identifier: MIT
"""Clients that come, stream and vanish at random: churn.py [MINUTES [CLIENTS]]

In the end nothing may be left of them: no row but the prefix cache's, no request, no connection, no thread; and of that
cache nothing once the server has ended."""
import json
import os
import random
import signal
import socket
import sys
import threading
import time

from support import Server

WORDS = "the old house stood at end of a lane and Anna said that birds sing in London by night".split()


BEGINNING = "Once upon a time there was an old house at the end of a lane, and in it lived Anna. " * 2


def text(dice, words):
    return " ".join(dice.choice(WORDS) for _ in range(words))


class Client(threading.Thread):
    """One after the other, until it is time: what it did, counted."""

    def __init__(self, server, until, seed):
        super().__init__(daemon=True)
        self.server, self.until, self.dice = server, until, random.Random(seed)
        self.counts, self.problem = {}, None
        self.longest = 0  # seconds that it has waited for a whole answer

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def run(self):
        try:
            while time.monotonic() < self.until:
                self.visit()
                if self.dice.random() < 0.3:
                    time.sleep(self.dice.random() * 0.3)
        except Exception as error:  # noqa: BLE001: told by the main thread
            self.problem = f"{type(error).__name__}: {error}"

    def request(self):
        dice = self.dice
        chat = dice.random() < 0.5
        ask = {"max_tokens": dice.choice([1, 5, 40, 200]), "stream": dice.random() < 0.7, "n": dice.choice([1, 1, 1, 2]),
               "temperature": dice.choice([0, 1]), "ignore_eos": dice.random() < 0.5,
               "pith": {"policy": dice.choice(["gate", "narrow"])}}
        if ask["stream"]:
            ask["pith"]["drops"] = dice.random() < 0.5
        # Half of them begin alike.
        prompt = dice.choice(["", BEGINNING]) + text(dice, dice.choice([1, 10, 80, 250]))
        if chat:
            ask["messages"] = [{"role": "user", "content": prompt}]
        else:
            ask["prompt"] = prompt
        body = json.dumps(ask).encode()
        path = "/v1/chat/completions" if chat else "/v1/completions"
        return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body, ask["stream"]

    def visit(self):
        dice = self.dice
        kind = dice.random()
        with self.server.connect(timeout=300) as connection:  # a sanitizer on a busy machine takes its time
            data, streams = self.request()
            if kind < 0.05:
                return self.count("said nothing")
            if kind < 0.15:
                connection.sendall(data[:dice.randrange(1, len(data))])
                return self.count("left while asking")
            if kind < 0.2:
                connection.sendall(data.replace(b'{"max_tokens"', b'{"max_tokns"'))
                answer = self.rest(connection)
                assert answer.split(b" ")[1] in (b"400", b"503"), answer[:200]
                return self.count("asked for nonsense")
            connection.sendall(data)
            if kind < 0.4:
                time.sleep(dice.random() * 0.2)
                if dice.random() < 0.5:  # with a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return self.count("left before the answer")
            if kind < 0.7:
                for _ in range(dice.randrange(1, 10)):
                    if not connection.recv(dice.choice([10, 400])):
                        break
                return self.count("left amid the answer")
            answer = self.rest(connection)
            status = answer.split(b" ")[1]
            assert status in (b"200", b"429", b"503"), answer[:300]
            if status == b"200" and streams:
                assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), answer[-300:]
            self.count("was answered" if status == b"200" else "was sent away")

    def rest(self, connection):
        begin, answer = time.monotonic(), b""
        while piece := connection.recv(65536):
            answer += piece
        self.longest = max(self.longest, time.monotonic() - begin)
        assert answer, "closed without a word"
        return answer


def churn(minutes, clients=64, seed=1):
    """What all did, counted. Raises AssertionError where something is left or went wrong."""
    server = Server("--policy", "gate=gate", "--policy", "narrow=streaming(sinks=2,recent=60)", "--parallel", 8,
                    "--max-requests", 48, "--kv-budget", 4, "--prefix-cache", 1, "-b", 16, "--read-timeout", 2, "-t", 1)
    try:
        begun = server.threads()
        until = time.monotonic() + 60 * minutes
        crowd = [Client(server, until, seed * 1000 + i) for i in range(clients)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join(60 * minutes + 300)
            assert not one.is_alive(), "a client waits for ever"
            assert one.problem is None, one.problem
        assert server.until(server.is_empty, 60), server.metrics()
        assert server.until(lambda: server.metrics()["pith_connections"] == 1, 60), server.metrics()
        # The thread of the connection that asks is there, and those that have ended are joined when another one comes.
        assert server.until(lambda: server.threads() <= begun + 2), f"{server.threads()} threads, once {begun}"
        open_files = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        assert open_files < 40, f"{open_files} open files"
        metrics = server.metrics()
        assert metrics["pith_prefix_cache_bytes"] <= 2 * 2**20, metrics
        assert server.end(signal.SIGTERM) == 130, server.log()[-4000:]
        assert "ended: every page is free" in server.log(), server.log()[-4000:]
        assert "Sanitizer" not in server.log() and "runtime error" not in server.log(), server.log()[-4000:]
        counts = {}
        for one in crowd:
            for what, count in one.counts.items():
                counts[what] = counts.get(what, 0) + count
        counts["longest answer, s"] = round(max(one.longest for one in crowd), 1)
        return counts, metrics
    finally:
        server.close()


if __name__ == "__main__":
    counts, metrics = churn(*map(float, sys.argv[1:2] or [10]), *map(int, sys.argv[2:3]))
    print(json.dumps({"visits": counts, "metrics": metrics}, indent=1))
