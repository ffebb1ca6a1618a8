# SPDX-License-Identifier: MIT
"""Recall documents: facts planted in running prose and asked for later, so that a model's context matters.

Several facts a document, some about people who share a name, some that change; each is asked for at a random distance.
What has to be recalled is marked token by token, for measuring; training treats it like any other text.
"""

import dataclasses

import numpy

FIRST = ("Adam Agnes Albert Alice Amos Anne Arthur Bertha Caleb Cecil Clara Daniel Dora Edgar Edith Edmund Ernest Esther "
         "Felix George Gilbert Grace Harold Helen Henry Hester Hugh Isabel Jasper Joan Julia Kate Laura Lucy Mabel Margaret "
         "Martin Miriam Nathan Nora Oliver Oscar Philip Rachel Ralph Rose Ruth Silas Simon Stella Walter").split()
LAST = ("Abbot Archer Barlow Bell Bishop Bowen Brand Carver Chase Clay Cole Crane Cross Dale Drake Ellis Fairfax Field "
        "Finch Ford Frost Gray Hale Harper Hawke Hill Holt Hunter Kemp Lake Lamb Lane Marsh Mason North Page Parker Pike "
        "Porter Reed Shaw Slater Snow Stone Thorne Turner Vane Wade Ward Webb Wilde Winter").split()
PLACE = ("Athens Berlin Boston Bristol Cairo Chester Cork Derby Dover Dublin Durham Exeter Florence Geneva Glasgow Havana "
         "Kent Lincoln Lisbon London Madrid Malta Milan Moscow Naples Norwich Oxford Paris Prague Richmond Rome Salem "
         "Seville Surrey Turin Venice Vienna Warsaw Windsor York").split()
TRADE = ("baker barber brewer butcher captain clerk cook doctor driver farmer gardener grocer hunter joiner judge lawyer "
         "mason merchant miller miner painter pilot poet printer sailor shepherd singer smith soldier tailor teacher weaver"
         ).split()
WORDS = FIRST + LAST + PLACE + TRADE
HASTE = (4.0, 1.0, 0.3, 0.1)    # a question comes after this power of a uniform part of the rest: soon, at any time, late


@dataclasses.dataclass(frozen=True)
class Kind:
    """One sort of fact; {n} is the person, {v} the value."""

    plant: tuple      # wordings that state it
    change: str       # states a new value that replaces the old one
    ask: tuple        # questions
    answer: str       # what precedes the value when it is recalled; a full stop follows it
    values: tuple     # () stands for the numbers 10..999


KINDS = (
    Kind((" The home of {n} is {v}.", " The home of {n} is {v}, as everybody knows.",
          " It is well known that the home of {n} is {v}."),
         " But now the home of {n} is {v}.", (" Where does {n} live?", " And in what town is {n} to be found?"),
         " The home of {n} is", tuple(PLACE)),
    Kind((" The trade of {n} is {v}.", " The trade of {n} is {v}, and a good one.", " They say the trade of {n} is {v}."),
         " But now the trade of {n} is {v}.", (" What is the trade of {n}?", " And what does {n} do for a living?"),
         " The trade of {n} is", tuple(TRADE)),
    Kind((" The number of {n} is {v}.", " The number of {n} is {v}, and it must not be forgotten."),
         " But now the number of {n} is {v}.", (" What is the number of {n}?", " Who remembers the number of {n}?"),
         " The number of {n} is", ()),
)


@dataclasses.dataclass
class Question:
    """Where the value of one question stands in its document."""

    start: int       # position of its first token
    stop: int        # one past its last token
    distance: int    # tokens back to the end of the fact that it asks for
    updated: bool    # the fact had replaced an earlier one


class Recall:
    """Makes recall documents out of a token stream of prose."""

    def __init__(self, vocab, tokens_per_fact=96):
        self.vocab = vocab
        self.tokens_per_fact = tokens_per_fact    # prose and all; a fact is asked for about once
        pieces = [vocab.piece(i) for i in range(vocab.size)]
        self._ends = numpy.array([piece.endswith((b".", b"!", b"?", b'."', b'!"', b'?"')) for piece in pieces])
        self._line = numpy.array([piece.endswith(b"\n") for piece in pieces])

    def document(self, rng, prose, length):
        """rng: random.Random; prose: ids [>= length] -> (ids int64 [length], [Question])."""
        events = self._events(rng, length)
        budget = max(0, length - sum(len(self._text(event)) for event in events))
        places = numpy.flatnonzero(self._ends[prose[:budget]] | self._line[prose[:budget]]) + 1
        out, questions, used, stated = [], [], 0, {}
        for event in events:
            wanted = int(event["at"] * budget)
            stop = int(places[min(numpy.searchsorted(places, wanted), len(places) - 1)]) if len(places) else wanted
            out.extend(int(i) for i in prose[used:max(used, stop)])
            used = max(used, stop)
            out.extend(self._text(event))
            if "value" in event:
                stop = len(out) - 1                                       # the full stop is no part of the value
                start = stop - len(event["value"])
                if stop <= length:
                    questions.append(Question(start, stop, start - stated[event["fact"]], event["updated"]))
            else:
                stated[event["fact"]] = len(out)
        out.extend(int(i) for i in prose[used:used + max(0, length - len(out))])
        return numpy.array(out[:length], dtype=numpy.int64), questions

    def _text(self, event):
        return event["text"] + event.get("value", []) + event.get("close", [])

    def _events(self, rng, length):
        """Statements and questions in order, each with its place `at` in [0, 1) of the prose."""
        count = max(1, round(length / self.tokens_per_fact * rng.uniform(0.5, 1.5)))
        people = self._people(rng, count)
        events = []
        for fact, name in enumerate(people):
            kind = rng.choice(KINDS)
            value = self._value(rng, kind)
            stated = rng.random() ** 2                                    # early facts are the far ones
            events.append(self._statement(rng.choice(kind.plant), name, value, fact, stated))
            updated = rng.random() < 0.15
            if updated:
                stated += (1.0 - stated) * rng.random()
                value = self._value(rng, kind)
                events.append(self._statement(kind.change, name, value, fact, stated))
            for _ in range(rng.choice((1, 1, 2))):
                share = rng.random() ** rng.choice(HASTE)
                events.append({
                    "fact": fact, "updated": updated, "at": stated + (1.0 - stated) * share,
                    "text": self.vocab.encode(rng.choice(kind.ask).format(n=name) + kind.answer.format(n=name)),
                    "value": self.vocab.encode(f" {value}"), "close": self.vocab.encode(".")})
        return sorted(events, key=lambda event: event["at"])

    def _statement(self, wording, name, value, fact, at):
        return {"fact": fact, "at": at, "text": self.vocab.encode(wording.format(n=name, v=value))}

    @staticmethod
    def _value(rng, kind):
        return rng.choice(kind.values) if kind.values else rng.randrange(10, 1000)

    @staticmethod
    def _people(rng, count):
        """Distinct names; about half share their first or last name with another."""
        pool = max(3, count // 2 + 1)
        first, last = rng.sample(FIRST, min(pool, len(FIRST))), rng.sample(LAST, min(pool, len(LAST)))
        names = [f"{a} {b}" for a in first for b in last]
        return rng.sample(names, min(count, len(names)))
