# SPDX-License-Identifier: MIT
"""pith serve from outside: what it answers, what it refuses, and what it does with clients that misbehave."""
import json
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from support import FORM, MODEL, TOOL, Case, Server, events

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "Who are you, Anna?"}]
GREEDY = {"temperature": 0, "max_tokens": 12}


def command(*arguments):
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    return json.loads(done.stdout)


class Answers(Case):
    def test_a_completion_is_what_the_command_generates(self):
        prompt = "The old house stood"
        expected = command("run", "-m", MODEL, "-p", prompt, "-n", 12, "--temp", 0, "--json")
        status, answer = self.server.post(TEXT, {"prompt": prompt, **GREEDY, "seed": 1})
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["choices"][0]["text"], expected["text"])
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertEqual(answer["usage"], {"prompt_tokens": expected["prompt_tokens"], "completion_tokens": 12,
                                           "prompt_tokens_details": {"cached_tokens": 0},
                                           "total_tokens": expected["prompt_tokens"] + 12})
        tokens = command("tokenize", "-m", MODEL, "-p", prompt, "--json")["tokens"]
        self.assertEqual(self.server.post(TEXT, {"prompt": tokens, **GREEDY})[1]["choices"], answer["choices"])
        self.assertEqual(self.server.post("/tokenize", {"content": prompt}), (200, {"tokens": tokens, "count": len(tokens)}))

    def test_a_chat_is_its_template(self):
        text = f"user: {USER[0]['content']}\nassistant: "
        expected = self.server.post(TEXT, {"prompt": text, **GREEDY})[1]["choices"][0]["text"]
        for role, content in (("user", USER[0]["content"]),
                              ("user", [{"type": "text", "text": "Who are you,"}, {"type": "text", "text": " Anna?"}])):
            status, answer = self.server.post(CHAT, {"messages": [{"role": role, "content": content}], **GREEDY})
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["choices"][0]["message"], {"role": "assistant", "content": expected, "refusal": None})
        tokens = self.server.post("/tokenize", {"messages": USER})[1]["tokens"]
        self.assertEqual(len(tokens), answer["usage"]["prompt_tokens"])

    def test_a_stream_says_the_same(self):
        for path, ask in ((CHAT, {"messages": USER}), (TEXT, {"prompt": "Anna and"})):
            ask = {**ask, **GREEDY, "n": 2, "temperature": 1, "seed": 7}
            whole = self.server.post(path, ask)[1]
            status, headers, body = self.server.ask("POST", path, {**ask, "stream": True,
                                                                  "stream_options": {"include_usage": True}})
            self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
            chunks = events(body)
            self.assertEqual(chunks[-1]["choices"], [])
            self.assertEqual(chunks[-1]["usage"], whole["usage"])
            self.assertEqual(len({chunk["id"] for chunk in chunks}), 1)
            texts, reasons = ["", ""], [None, None]
            for choice in (one for chunk in chunks for one in chunk["choices"]):
                texts[choice["index"]] += choice["delta"].get("content", "") if path == CHAT else choice["text"]
                self.assertIsNone(reasons[choice["index"]], "nothing follows the end")
                reasons[choice["index"]] = choice["finish_reason"]
            said = [one["message"]["content"] if path == CHAT else one["text"] for one in whole["choices"]]
            self.assertEqual(texts, said)
            self.assertNotEqual(*texts)
            self.assertEqual(reasons, ["length", "length"])

    def test_options_reach_the_sampler(self):
        base = {"prompt": "The old house stood", **GREEDY, "logprobs": 3}
        first = self.server.post(TEXT, base)[1]["choices"][0]["logprobs"]
        self.assertEqual([len(first[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")], [12] * 4)
        for logprob, top in zip(first["token_logprobs"], first["top_logprobs"]):
            self.assertAlmostEqual(max(top.values()), logprob, places=5)
        token = self.server.post("/tokenize", {"content": first["tokens"][0], "add_special": False})[1]["tokens"][0]
        banned = self.server.post(TEXT, {**base, "logit_bias": {str(token): -100}})[1]["choices"][0]["logprobs"]
        self.assertNotEqual(banned["tokens"][0], first["tokens"][0])
        self.assertEqual(banned["top_logprobs"][0], first["top_logprobs"][0], "log-probabilities are the model's own")
        text = self.server.post(TEXT, base)[1]["choices"][0]["text"]
        stopped = self.server.post(TEXT, {**base, "stop": [text[5:9]]})[1]["choices"][0]
        self.assertEqual((stopped["text"], stopped["finish_reason"]), (text[:text.index(text[5:9])], "stop"))
        random = {"prompt": "Once", "max_tokens": 12, "seed": 3}
        one, same, other = (self.server.post(TEXT, {**random, "seed": seed})[1]["choices"] for seed in (3, 3, 4))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)
        self.assertEqual(self.server.post(TEXT, {**base, "max_tokens": 0})[1]["choices"][0]["text"], "")

    def test_chat_log_probabilities(self):
        ask = {"messages": USER, **GREEDY, "logprobs": True, "top_logprobs": 2}
        content = self.server.post(CHAT, ask)[1]["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), 12)
        for token in content:
            self.assertEqual(bytes(token["bytes"]).decode(errors="replace"), token["token"])
            self.assertEqual(token["top_logprobs"][0]["token"], token["token"], "the likeliest was chosen")
        streamed = events(self.server.ask("POST", CHAT, {**ask, "stream": True})[2])
        again = [one for chunk in streamed for choice in chunk["choices"]
                 for one in (choice["logprobs"] or {"content": []})["content"]]
        self.assertEqual(again, content)

    def test_what_is_dropped_is_told(self):
        text = "The old house stood at the end of the lane. " * 8
        ask = {"prompt": text, "max_tokens": 24, "temperature": 0, "stream": True,
               "pith": {"drops": True, "tau": 1}}
        chunks = events(self.server.ask("POST", TEXT, ask)[2])
        said = [choice.get("pith", {}) for chunk in chunks for choice in chunk["choices"]]
        prompt = said[0]["prompt"]
        self.assertEqual("".join(prompt), text)
        tokens = [one["token"] for one in said if "token" in one]
        self.assertEqual(len(tokens), 24)
        [rows] = [one["rows_per_token"] for one in said if "rows_per_token" in one]
        dropped = {}
        for one in said:
            for position, count in one.get("drops", []):
                dropped[position] = dropped.get(position, 0) + count
        held = said[-1]["held"]
        self.assertEqual(sum(dropped.values()), held["rows_dropped"])
        self.assertGreater(held["rows_dropped"], 0)
        self.assertLessEqual(max(dropped.values()), rows)
        self.assertLess(max(dropped), len(prompt) + 24)
        self.assertEqual(held["rows_seen"], rows * (len(prompt) + 23), "the last token is not fed")
        self.assertLess(held["kv_bytes"], held["kv_bytes_dense"])

    def test_models_and_health(self):
        status, _, models = self.server.ask("GET", "/v1/models")
        self.assertEqual((status, models["data"][0]["id"]), (200, "bookworm-1m"))
        self.assertEqual(self.server.ask("GET", "/health")[2], {"status": "ok"})
        self.assertEqual(self.server.post(TEXT, {"model": "bookworm-1m", "prompt": "a", **GREEDY})[0], 200)

    def test_metrics(self):
        before = self.server.metrics()
        self.server.post(TEXT, {"prompt": "The old house", **GREEDY})
        after = self.server.metrics()
        self.assertEqual(after["pith_requests_total"] - before["pith_requests_total"], 1)
        self.assertEqual(after["pith_generated_tokens_total"] - before["pith_generated_tokens_total"], 12)
        self.assertGreater(after["pith_prompt_tokens_total"], before["pith_prompt_tokens_total"])
        self.assertGreater(after["pith_rows_seen_total"], before["pith_rows_seen_total"])
        self.assertTrue(0 <= after["pith_share_forgotten"] < 1)
        text = self.server.ask("GET", "/metrics")[2].decode()
        families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        samples = {line.split("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")}
        self.assertEqual(families, samples)

    def test_the_log_has_a_line_for_each_request_and_no_prompt(self):
        word = "Zanzibar"
        self.server.post(TEXT, {"prompt": word, **GREEDY})
        self.server.post(TEXT, {"prompt": word, **GREEDY, "stream": True})
        self.server.ask("GET", "/v1/models?" + word)
        self.assertTrue(self.server.until(lambda: self.server.log().count("POST /v1/completions 200") >= 2))
        self.assertNotIn(word, self.server.log())
        self.server.ask("GET", "/x%0ay%1b[31m")
        self.assertNotIn("\x1b", self.server.log())
        self.assertIn("/x\\x0ay\\x1b[31m 404", self.server.log())


class Refusals(Case):
    arguments = ("--max-tokens", 64, "--max-body", 0.25, "--read-timeout", 1, "--no-page")

    def refused(self, status, part, path, body, code=None, **headers):
        got, answer = self.server.post(path, body, **headers)
        self.assertEqual(got, status, answer)
        error = answer["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertIn(part, error["message"])
        if code:
            self.assertEqual(error["code"], code)

    def test_fields(self):
        for part, fields in (
                ("prompt: expected a text or tokens, found none", {"prompt": None}),
                ("prompt: expected a text, tokens", {"prompt": 5}),
                ("prompt", {"prompt": []}),
                ("prompt: expected a whole number from 0", {"prompt": [1, -2]}),
                ("prompt: expected a whole number", {"prompt": [1, 2.5]}),
                ("prompt: expected texts", {"prompt": ["a", 3]}),
                ("prompt: expected an id from 0 to", {"prompt": [1 << 30]}),
                ("prompt: expected at most 16 at a time", {"prompt": ["a"] * 17}),
                ("n: expected at most 16 answers", {"prompt": ["a"] * 9, "n": 2}),
                ("max_tokens: expected a whole number from 0 to 64, found -1", {"max_tokens": -1}),
                ("max_tokens: expected a whole number from 0 to 64, found 65", {"max_tokens": 65}),
                ("max_tokens: expected a whole number", {"max_tokens": 1.5}),
                ("max_tokens: expected a whole number", {"max_tokens": "12"}),
                ("max_tokens: expected a whole number", {"max_tokens": True}),
                ("temperature: expected a number from 0 to 100, found -0.5", {"temperature": -0.5}),
                ("temperature", {"temperature": [1]}),
                ("top_p: expected a number above 0", {"top_p": 0}),
                ("top_p", {"top_p": 1.01}),
                ("min_p", {"min_p": -1}),
                ("frequency_penalty: expected a number from -2 to 2", {"frequency_penalty": 3}),
                ("n: expected a whole number from 1 to 16, found 0", {"n": 0}),
                ("n:", {"n": 1 << 70}),
                ("stop: expected a text", {"stop": ""}),
                ("stop: expected a text", {"stop": [1]}),
                ("stop: expected at most 16", {"stop": ["a"] * 17}),
                ("seed: expected a whole number", {"seed": 0.5}),
                ("logit_bias: expected token ids", {"logit_bias": {"a": 1}}),
                ("logit_bias: expected a number from -100 to 100, found 101", {"logit_bias": {"3": 101}}),
                ("logit_bias: expected an id", {"logit_bias": {"99999999": 1}}),
                ("logprobs: expected a whole number from 0 to 20, found 21", {"logprobs": 21}),
                ("stream: expected true or false, found 1", {"stream": 1}),
                ("stream_options: expected stream", {"stream_options": {"include_usage": True}}),
                ("echo: expected false", {"echo": True}),
                ("suffix: expected none", {"suffix": "x"}),
                ("tempreature: not a field", {"tempreature": 1}),
                ("messages: not a field", {"messages": USER}),
                ("pith: expected a JSON object", {"pith": 1}),
                ("pith.policy: expected one of default, found \"h2o(rows=1)\"", {"pith": {"policy": "h2o(rows=1)"}}),
                ("pith.tau: expected a number from 0 to 10, found -1", {"pith": {"tau": -1}}),
                ("pith.tau: expected a number from 0 to 10, found 11", {"pith": {"tau": 11}}),
                ("pith.file: not a field", {"pith": {"file": "/etc/passwd"}}),
                ("pith.drops: expected stream", {"pith": {"drops": True}}),
                ("pith.drops: this server does not tell them", {"stream": True, "pith": {"drops": True}}),
        ):
            with self.subTest(part):
                self.refused(400, part, TEXT, {"prompt": "a", **GREEDY, **fields})
        for part, fields in (
                ("messages: expected an array", {"messages": None}),
                ("messages: expected an array of at least one message, found an empty one", {"messages": []}),
                ("messages: expected an array", {"messages": "hello"}),
                ("messages[0]: expected a JSON object", {"messages": ["hello"]}),
                ("messages[0].role: expected a text, found none", {"messages": [{"content": "x"}]}),
                ("messages[0].role: expected a text, found 5", {"messages": [{"role": 5, "content": "x"}]}),
                ("messages[0].content: expected a text", {"messages": [{"role": "user"}]}),
                ("messages[0].content: expected a text", {"messages": [{"role": "user", "content": 5}]}),
                ("messages[0].content: expected parts of type", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                ("top_logprobs: expected logprobs", {"top_logprobs": 2}),
                ("logprobs: expected true or false", {"logprobs": 2}),
                ("tools: expected none", {"tools": [{"type": "function"}]}),
                ("response_format", {"response_format": {"type": "json_object"}}),
                ("prompt: not a field", {"prompt": "x"}),
        ):
            with self.subTest(part):
                self.refused(400, part, CHAT, {"messages": USER, **GREEDY, **fields})
        self.refused(404, "model: expected \"bookworm-1m\"", TEXT, {"prompt": "a", "model": "gpt-4"}, "model_not_found")
        self.refused(400, "have room", TEXT, {"prompt": [5] * 20000, **GREEDY}, "context_length_exceeded")
        self.refused(400, "content: expected either", "/tokenize", {})

    def test_bodies(self):
        for body in (b"", b"{", b"[]", b"null", b'"a"', b'{"prompt": "a"', b'{"prompt": "a"} x', b'{"prompt": "\xff\xfe"}',
                     b'{"prompt": "a", "prompt": "b"}', b'{"a":' * 100 + b"1" + b"}" * 100, b'{"prompt": 1e999}',
                     b'\x00', b'{"prompt": "\\ud800"}', b"[" * 100000):
            with self.subTest(body[:40]):
                status, answer = self.server.post(TEXT, body)
                self.assertEqual(status, 400, answer)
                self.assertEqual(answer["error"]["type"], "invalid_request_error")

    def test_types_sizes_and_methods(self):
        self.refused(415, "Content-Type", TEXT, b"prompt=a", Content_Type="application/x-www-form-urlencoded")
        self.refused(415, "Content-Type", TEXT, b"--x", Content_Type="multipart/form-data; boundary=x")
        self.refused(415, "compressed", TEXT, b"\x1f\x8b", Content_Encoding="gzip")
        self.refused(413, "at most 262144 bytes", TEXT, b" " * 300000)
        self.assertEqual(self.server.post(TEXT, {"prompt": "a", **GREEDY}, Content_Type="application/json; charset=utf-8")[0], 200)
        for method, path, status in (("GET", "/nothing", 404), ("GET", "/", 404), ("GET", "/v1/../etc/passwd", 404),
                                     ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404), ("GET", TEXT, 405), ("DELETE", CHAT, 405),
                                     ("POST", "/health", 405), ("PUT", TEXT, 405), ("OPTIONS", CHAT, 405),
                                     ("PATCH", "/metrics", 405), ("GET", "/" + "a" * 9000, 414)):
            with self.subTest(method + path[:20]):
                got, headers, answer = self.server.ask(method, path)
                self.assertEqual(got, status, answer)
                self.assertIn("message", answer["error"])
                self.assertEqual("Allow" in headers, status == 405)
        self.assertEqual(self.server.ask("HEAD", "/health")[0], 200)

    def test_other_sites_may_not_ask(self):
        ask = {"prompt": "a", **GREEDY}
        self.refused(403, "Origin", TEXT, ask, Origin="https://example.com")
        self.refused(403, "Origin", TEXT, ask, Origin="null")
        self.refused(403, "Host", TEXT, ask, Host="rebound.example:80")
        self.assertEqual(self.server.post(TEXT, ask, Origin=self.server.url)[0], 200)

    def test_what_is_no_http(self):
        for data, status in (
                (b"hello\r\n\r\n", b"400"),
                (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
                (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"400"),
                (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
                (b"POST %s HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" % TEXT.encode(), b"400"),
                (b"POST %s HTTP/1.1\r\nContent-Length: -1\r\n\r\n" % TEXT.encode(), b"400"),
                (b"POST %s HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n" % TEXT.encode(), b"400"),
                (b"POST %s HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n" % TEXT.encode(), b"413"),
                (b"POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % TEXT.encode(), b"411"),
                (b"POST %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % TEXT.encode(), b"411"),
                (b"GET /health HTTP/1.1\r\n" + b"X: %s\r\n" % (b"y" * 100) * 400 + b"\r\n", b"431"),
                (b"GET /health HTTP/1.1\r\nX: " + b"y" * 200000, b"431"),
                (b"GET /\0health HTTP/1.1\r\n\r\n", b"400"),
        ):
            with self.subTest(data[:60]):
                answer = self.server.raw(data, shut=True)
                self.assertEqual(answer.split(b" ")[1:2], [status], answer)
                self.assertIn("message", json.loads(answer.partition(b"\r\n\r\n")[2])["error"])
        # Ranges are for files: whoever asks for one gets all, however he spells it.
        answer = self.server.raw(b"GET /health HTTP/1.1\r\nRange: bytes=%s\r\nConnection: close\r\n\r\n" % (b"0-1," * 1500))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'{"status":"ok"}'), answer)

    def test_slow_clients(self):
        def dribble(data, pause):
            with self.server.connect() as connection:
                begin = time.monotonic()
                try:
                    for byte in data:
                        connection.sendall(bytes([byte]))
                        time.sleep(pause)
                    answer = connection.recv(65536)
                except (BrokenPipeError, ConnectionResetError):
                    answer = b""
                return answer, time.monotonic() - begin
        answer, seconds = dribble(b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 100, 0.05)
        self.assertLess(seconds, 5)
        body = b"POST %s HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n" % TEXT.encode()
        with self.server.connect() as connection:
            connection.sendall(body + b"{")
            answer = connection.recv(65536)
            self.assertIn(b" 400 ", answer.split(b"\r\n")[0])
        # Half open: it asked, and then closed its end. Nobody waits for the answer.
        self.assertEqual(self.server.raw(body[:60], shut=True), b"")
        with self.server.connect():
            self.assertEqual(self.server.ask("GET", "/health")[0], 200, "who says nothing is in nobody's way")


class Clients(Case):
    """Who leaves, who is one too many."""
    arguments = ("--max-requests", 3, "--parallel", 2, "--max-connections", 12)
    LONG = {"prompt": "Once", "max_tokens": 900, "ignore_eos": True}

    def start(self, **more):
        connection = self.server.connect()
        body = json.dumps({**self.LONG, **more}).encode()
        connection.sendall(b"POST %s HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                           % (TEXT.encode(), len(body), body))
        return connection

    def busy(self, n):
        return self.server.until(lambda: self.server.metrics()["pith_requests_pending"] == n)

    def test_who_leaves_frees_what_he_holds(self):
        for stream in (False, True):
            for half in (False, True):
                with self.subTest(stream=stream, half=half):
                    before = self.server.metrics()["pith_requests_cancelled_total"]
                    many = {"n": 3}  # of which one waits
                    connection = self.start(stream=stream, **many)
                    if stream:
                        self.assertIn(b"200 OK", connection.recv(100))
                    else:
                        self.assertTrue(self.busy(3))
                    connection.shutdown(socket.SHUT_WR) if half else connection.close()
                    self.assertTrue(self.server.until(self.server.is_empty))
                    self.assertGreater(self.server.metrics()["pith_requests_cancelled_total"], before)
                    connection.close()

    def test_one_too_many(self):
        connection = self.start(stream=True, n=3)
        connection.recv(100)
        status, headers, answer = self.server.ask("POST", TEXT, {"prompt": "a", **GREEDY})
        if status != 200:  # the others may be done already
            self.assertEqual((status, headers["Retry-After"], answer["error"]["type"]), (429, "1", "rate_limit_error"))
        connection.close()
        self.assertTrue(self.server.until(self.server.is_empty))
        self.assertEqual(self.server.post(TEXT, {"prompt": "a", **GREEDY})[0], 200)
        status, answer = self.server.post(TEXT, {"prompt": "a", "n": 4})
        self.assertEqual(status, 400, answer)

    def test_connections(self):
        open_ones = [self.server.connect() for _ in range(12)]
        until = time.monotonic() + 5
        while True:
            answer = self.server.raw(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
            if b" 503 " in answer.split(b"\r\n")[0] or time.monotonic() > until:
                break
        self.assertIn(b" 503 ", answer.split(b"\r\n")[0])
        for one in open_ones:
            one.close()
        self.assertTrue(self.server.until(lambda: b"200" in self.server.raw(
            b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")))

    def test_no_thread_stays(self):
        self.assertTrue(self.server.until(lambda: self.server.metrics()["pith_connections"] == 1))
        before = self.server.threads()
        for _ in range(8):
            self.server.post(TEXT, {"prompt": "a", **GREEDY})
        self.assertTrue(self.server.until(lambda: self.server.metrics()["pith_connections"] == 1))
        self.assertLessEqual(self.server.threads(), before + 1)


class Policies(Case):
    arguments = ("--policy", "dense=none", "--policy", "narrow=streaming(sinks=2,recent=30)", "--policy", "gate",
                 "--request-tau", "-1,2")

    def test_each_by_its_name(self):
        models = self.server.ask("GET", "/v1/models")[2]["data"][0]["pith"]
        self.assertEqual([one["name"] for one in models["policies"]], ["dense", "narrow", "default"])
        prompt = "The old house stood at the end of the lane. " * 6
        for name, spec in (("dense", "none"), ("narrow", "streaming(sinks=2,recent=30)"), ("default", "gate")):
            expected = command("run", "-m", MODEL, "-p", prompt, "-n", 12, "--temp", 0, "--policy", spec, "--json")
            status, answer = self.server.post(TEXT, {"prompt": prompt, **GREEDY, "pith": {"policy": name}})
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["choices"][0]["text"], expected["text"])
            self.assertEqual(answer["choices"][0]["pith"]["kv_bytes"], expected["kv_bytes"])
        unnamed = self.server.post(TEXT, {"prompt": prompt, **GREEDY, "pith": {}})[1]["choices"][0]["pith"]
        self.assertEqual(unnamed["rows_dropped"], 0, "the first is for who names none")

    def test_tau(self):
        prompt = "The old house stood at the end of the lane. " * 6
        dropped = []
        for tau in (-1, 0, 2):
            status, answer = self.server.post(TEXT, {"prompt": prompt, **GREEDY, "pith": {"policy": "default", "tau": tau}})
            self.assertEqual(status, 200, answer)
            dropped.append(answer["choices"][0]["pith"]["rows_dropped"])
        self.assertEqual(dropped, sorted(dropped))
        self.assertLess(dropped[0], dropped[2])
        status, answer = self.server.post(TEXT, {"prompt": prompt, "pith": {"policy": "dense", "tau": 1}})
        self.assertEqual(status, 400)
        self.assertIn("policy with the learned gate", answer["error"]["message"])


class Prefixes(Case):
    """What prompts begin with is read once, and nobody can tell but by what is counted."""
    arguments = ("--policy", "gate", "--policy", "narrow=streaming(sinks=2,recent=30)",
                 "--policy", "judged=h2o(rows=64,recent=32)", "-b", 16, "--prefix-cache", 8)
    BEGINNING = "The old house stood at the end of the lane. " * 6

    def told(self, prompt, policy):
        """The text, the drops of each token, and what was used."""
        ask = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True, "stream": True,
               "stream_options": {"include_usage": True}, "pith": {"policy": policy, "drops": True}}
        chunks = events(self.server.ask("POST", TEXT, ask)[2])
        dropped, held = {}, None
        for choice in (choice for chunk in chunks for choice in chunk["choices"]):
            for position, count in choice.get("pith", {}).get("drops", []):
                dropped[position] = dropped.get(position, 0) + count
            held = choice.get("pith", {}).get("held", held)
        self.assertEqual(sum(dropped.values()), held["rows_dropped"])
        text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
        return text, dropped, held, chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"]

    def test_what_is_told_stays_the_same(self):
        for policy in ("default", "narrow"):
            for end in ("Anna", "The birds sing in London by night"):
                with self.subTest(policy=policy, end=end):
                    first, again = (self.told(self.BEGINNING + end, policy) for _ in range(2))
                    self.assertEqual(again[:3], first[:3])
                    self.assertGreater(len(first[1]), 0)
                    self.assertEqual(again[3] % 16, 0)
                    self.assertGreater(again[3], 32)

    def test_metrics(self):
        before = self.server.metrics()
        for _ in range(2):
            status, answer = self.server.post(TEXT, {"prompt": "Once " + self.BEGINNING, **GREEDY})
            self.assertEqual(status, 200, answer)
        reused = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.server.post(TEXT, {"prompt": self.BEGINNING, **GREEDY, "pith": {"policy": "judged"}})
        self.assertTrue(self.server.until(self.server.is_empty))
        after = self.server.metrics()
        grown = {name: after[name] - before[name] for name in after}
        self.assertEqual(grown["pith_prefix_cache_hits_total"], 1)
        self.assertEqual(grown["pith_prefix_cache_tokens_total"], reused)
        self.assertEqual(grown["pith_prefix_cache_misses_total"], 2)
        self.assertIn('pith_prefix_cache_misses_total{policy="judged",reason="policy_looks_ahead"} 1\n',
                      self.server.ask("GET", "/metrics")[2].decode())
        self.assertGreater(grown["pith_prefix_cache_entries"], 0)
        self.assertTrue(0 < after["pith_prefix_cache_bytes"] <= 3 * 8 * 2**20)
        self.assertGreater(after["pith_prefix_cache_rows"], 0)

    def test_it_can_be_off(self):
        server = Server("--prefix-cache", 0)
        try:
            for _ in range(2):
                answer = server.post(TEXT, {"prompt": self.BEGINNING * 2, **GREEDY})[1]
            self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
            self.assertEqual(server.metrics()["pith_prefix_cache_bytes"], 0)
        finally:
            server.close()


class Keys(unittest.TestCase):
    def test_a_key_is_asked_for(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder, "keys")
            keys.write_text("first-key\nsecond-key\r\n\n")
            server = Server("--api-key-file", keys)
            self.addCleanup(server.close)
            for key, status in ((None, 401), ("Bearer first-key", 200), ("Bearer second-key", 200), ("first-key", 401),
                                ("Bearer first-ke", 401), ("Bearer first-keyy", 401), ("Bearer ", 401)):
                headers = {"Authorization": key} if key else {}
                self.assertEqual(server.post(TEXT, {"prompt": "a", **GREEDY}, **headers)[0], status, key)
                self.assertEqual(server.ask("GET", "/metrics", **headers)[0], status)
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.ask("GET", "/")[0], 200)
            self.assertNotIn("first-key", server.log())
            self.assertEqual(server.end(), 130)


class Ends(unittest.TestCase):
    def ended(self, by, tokens, *arguments):
        """What a stream of eight answers has still to say when the server is asked to end."""
        server = Server(*arguments)
        self.addCleanup(server.close)
        with server.connect() as connection:
            body = json.dumps({"prompt": "Once", "max_tokens": tokens, "ignore_eos": True, "stream": True, "n": 8}).encode()
            connection.sendall(b"POST %s HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                               % (TEXT.encode(), len(body), body))
            data = connection.recv(100)
            server.process.send_signal(by)
            while piece := connection.recv(65536):
                data += piece
        self.assertEqual(server.end(by=None), 130)
        return data

    def test_requests_have_time_to_finish(self):
        data = self.ended(signal.SIGTERM, 50, "--grace", 600)
        self.assertEqual(data.count(b'"finish_reason":"length"'), 8)
        self.assertEqual(data.count(b"data: [DONE]"), 1)

    def test_but_not_for_ever(self):
        data = self.ended(signal.SIGINT, 1000, "--grace", 0)
        if data.count(b"data: [DONE]") == 0:  # it may have been quicker
            self.assertEqual(data.count(b"the server is shutting down"), 1)
            self.assertTrue(data.endswith(b"0\r\n\r\n"))

    def test_time_is_limited(self):
        server = Server("--timeout", 1, "--parallel", 1)
        self.addCleanup(server.close)
        status, answer = server.post(TEXT, {"prompt": ["Once"] * 16, "max_tokens": 1000, "ignore_eos": True})
        if status != 200:  # a machine may be quick enough
            self.assertEqual((status, answer["error"]["code"]), (503, "timeout"))
        self.assertTrue(server.until(server.is_empty))
        self.assertEqual(server.end(), 130)

    def test_a_port_that_is_taken(self):
        server = Server()
        self.addCleanup(server.close)
        done = subprocess.run([TOOL, "serve", "-m", MODEL, "--port", str(server.port)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot listen on 127.0.0.1", done.stderr)

    def test_bad_options(self):
        for exit_code, part, arguments in (
                (2, "--port", ["--port", "70000"]),
                (2, "--policy", ["--policy", "a=none", "--policy", "a=gate"]),
                (2, "--policy", ["--policy", "nothing"]),
                (2, "--request-tau", ["--request-tau", "3,1"]),
                (3, "keys", ["--api-key-file", "/nowhere/keys"]),
                (3, "an API key a line", ["--api-key-file", "/dev/null"]),
                (1, "cannot listen", ["--host", "203.0.113.1", "--port", "0"])):
            done = subprocess.run([TOOL, "serve", "-m", MODEL, *arguments], capture_output=True, text=True)
            self.assertEqual(done.returncode, exit_code, done.stderr)
            self.assertIn(part, done.stderr)


if __name__ == "__main__":
    unittest.main()
