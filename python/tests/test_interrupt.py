# SPDX-License-Identifier: MIT
"""Ctrl-C stops what is going on, and what it stopped can be used again."""

import os
import signal
import threading
import time

import pytest

import pith


@pytest.fixture(autouse=True)
def interrupts():
    """Python hears SIGINT, also where what started it (a shell's job in the background) had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Later:
    """Sends this process SIGINT after a while."""

    def __init__(self, seconds):
        self.timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *error):
        self.timer.cancel()


def test_a_generation_stops(model):
    begin = time.monotonic()
    stream = model.generate("Once", max_tokens=10**6, context=10**6, ends=[])
    with pytest.raises(KeyboardInterrupt), Later(0.3):
        stream.text()
    assert time.monotonic() - begin < 20
    assert stream.result.text
    assert model.generate("Once", max_tokens=3).text() is not None


def test_many_generations_stop(model):
    with pytest.raises(KeyboardInterrupt), Later(0.3):
        model.generate_all(["Once"] * 20, max_tokens=10**6, context=10**6, ends=[])


def test_a_step_stops_and_the_next_goes_on(model, ids):
    session = model.session(chunk=1, context=10**6)
    sequence = session.add(ids * 2000)  # many seconds of work
    with pytest.raises(KeyboardInterrupt), Later(0.3):
        session.step()
    done = session.length(sequence)
    assert 0 < done < len(ids) * 2000
    assert not session.idle
    session.finish(sequence)
    assert session.idle
    assert len(session.feed(ids)) == len(ids)


def test_an_answer_stops(model):
    template = pith.ChatTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    chat = model.conversation(template=template, context=10**5)
    with pytest.raises(KeyboardInterrupt), Later(0.3):
        chat.ask("Hello", max_tokens=10**5, ends=[])
    assert chat.ask("Hello", max_tokens=3).text is not None


def test_a_scorer_is_interrupted(model, ids):
    def slow(rows):
        time.sleep(0.01)
        return rows.born

    session = model.session(policy=pith.policies.scored(slow, rows=40), chunk=1)
    with pytest.raises(KeyboardInterrupt), Later(0.3):
        session.feed(ids)
