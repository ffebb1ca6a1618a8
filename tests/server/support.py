# SPDX-License-Identifier: MIT
"""A server of its own for each test class, and what it says of itself."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.environ.get("PITH_TOOL", ROOT / "build/release/bin/pith")
MODEL = ROOT / "examples/models/bookworm-1m"
FORM = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


class Server:
    def __init__(self, *arguments, model=MODEL):
        self.folder = tempfile.TemporaryDirectory()
        form = self.file("form.jinja", FORM)
        self.errors = pathlib.Path(self.folder.name, "errors")
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [TOOL, "serve", "-m", model, "--template", form, "--port", "0", *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        until = time.monotonic() + 60
        while not (found := re.search(r"listening on http://(\S+):(\d+)\n", self.log())):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no server: {self.log()}")
            time.sleep(0.01)
        self.host, self.port = found[1], int(found[2])
        self.url = f"http://{self.host}:{self.port}"

    def file(self, name, text):
        path = pathlib.Path(self.folder.name, name)
        path.write_text(text)
        return path

    def log(self):
        return self.errors.read_text(errors="replace")

    def connect(self, timeout=60):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def ask(self, method, path, body=None, **headers):
        """Status, headers, body; JSON where it is."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                headers.setdefault("Content-Type", "application/json")
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
            if data and response.getheader("Content-Type", "").startswith("application/json"):
                data = json.loads(data)
            return response.status, response.headers, data
        finally:
            connection.close()

    def post(self, path, body, **headers):
        status, _, data = self.ask("POST", path, body, **headers)
        return status, data

    def raw(self, data, shut=False):
        """All that comes back for these bytes."""
        with self.connect() as connection:
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while piece := connection.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass
            return answer

    def metrics(self):
        """{name: sum over policies}"""
        values = {}
        for line in self.ask("GET", "/metrics")[2].decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0]
                values[name] = values.get(name, 0) + float(value)
        return values

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def until(self, holds, seconds=20):
        """Waits for something that is true soon."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def is_empty(self):
        """No request is there, and none holds anything; what is kept of prompts' beginnings is the prefix cache's."""
        now = self.metrics()
        return not any(now[name] for name in ("pith_cache_rows", "pith_cache_bytes", "pith_requests_running",
                                              "pith_requests_waiting", "pith_requests_pending"))

    def end(self, by=signal.SIGTERM):
        """Its exit code; None: it has been asked to end already."""
        if by is not None:
            self.process.send_signal(by)
        try:
            out, _ = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert out == b"", "nothing goes to standard output"
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


class Case(unittest.TestCase):
    """One server for all of a class's tests; it has to be empty, and to leave well, when they are over."""
    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.arguments)

    @classmethod
    def tearDownClass(cls):
        try:
            assert cls.server.until(cls.server.is_empty), cls.server.metrics()
            assert cls.server.end() == 130, cls.server.log()
            assert "ended: every page is free" in cls.server.log(), cls.server.log()
            assert "ERROR" not in cls.server.log() and "Sanitizer" not in cls.server.log(), cls.server.log()
        finally:
            cls.server.close()


def events(body):
    """The JSON of a stream's events; the last one has to be [DONE]."""
    parts = body.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""], parts[-2:]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]
