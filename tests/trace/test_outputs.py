# SPDX-License-Identifier: MIT
"""What `pith trace` writes, read by others: JSON Schema, XML, PNG and GIF decoders, and its sums computed again."""
import csv
import json
import os
import pathlib
import random
import re
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

import jsonschema
import PIL.Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.environ.get("PITH_TOOL", ROOT / "build/release/bin/pith")
MODEL = ROOT / "examples/models/bookworm-1m"
RASTER = os.environ.get("PITH_RASTER", "ON") == "ON"
TEXT = (
    "Mr. Brown lived in London with two hundred and 15 birds. He didn't like them! \"They sing,\" he said, "
    "\"at 6:30 in the morning.\" Nobody asked Anna\u2019s uncle, who had 1,250.75 reasons\u2026 Why? The old house "
    "stood at the end of the lane, and the number of Philip Mason is 467.\n\nThen it rained, e.g. on Sunday.\n"
)
ODD = b"caf\xc3\xa9 \xf0\x9f\x98\x80 \xd7\xa9\xd7\x9c \xd9\x85\xd8\xb1 \xe4\xbd\xa0\xe5\xa5\xbd \xff\xfe\xc3 <b>&amp;\x01\x02\t]]>\r\n\xe2\x80\xae'\""
POLICIES = ["gate", "none", "h2o(rows=20,recent=5)", "streaming(sinks=2,recent=16)", "gate,h2o(rows=24,recent=8)"]


def run(*arguments, stdin=b""):
    return subprocess.run([TOOL, "trace", "-m", MODEL, *map(str, arguments)], input=stdin, capture_output=True)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def done(self, *arguments, stdin=b""):
        finished = run(*arguments, stdin=stdin)
        self.assertEqual(finished.returncode, 0, finished.stderr)
        return finished.stdout.decode()

    def fails(self, code, pattern, *arguments, stdin=b""):
        finished = run(*arguments, stdin=stdin)
        self.assertEqual(finished.returncode, code, finished.stderr)
        self.assertEqual(finished.stdout, b"")
        self.assertRegex(finished.stderr.decode(), r"\Apith: error: .*" + pattern)

    def trace(self, *arguments, stdin=b""):
        return json.loads(self.done(*arguments, "--json", stdin=stdin))


class Json(Case):
    def setUp(self):
        super().setUp()
        schema = json.loads((ROOT / "src/trace/pith-trace-1.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        self.validator = jsonschema.Draft202012Validator(schema)

    def check(self, trace):
        errors = [f"{list(e.path)[:4]}: {e.message[:200]}" for e in self.validator.iter_errors(trace)]
        self.assertEqual(errors, [])
        n = len(trace["tokens"])
        for name in ["pieces", "logprob", "entropy"]:
            self.assertEqual(len(trace[name]), n)
        for layer in trace["drop_at"]:
            for lane in layer:
                self.assertEqual(len(lane), n)
                self.assertTrue(all(until == -1 or j < until <= n for j, until in enumerate(lane)))
        self.assertEqual([p["first"] for p in trace["passes"]], [0] + [p["next"] for p in trace["passes"]][:-1])
        self.assertEqual(trace["passes"][-1]["next"], n)

    def test_every_policy_obeys_the_schema(self):
        for seed, policy in enumerate(POLICIES):
            with self.subTest(policy=policy):
                self.check(self.trace("-p", "The old house", "-n", 60, "-s", seed, "--policy", policy))
                self.check(self.trace("-p", TEXT, "--eval", "-b", 16, "--policy", policy))
        self.check(self.trace("-p", TEXT, "--eval", "--tau", "inf"))

    def test_characters_are_whole(self):
        text = "caf\u00e9 \U0001f600 \u05e9\u05dc\u05d5\u05dd \u0645\u0631 \u4f60\u597d."
        trace = self.trace("-p", text, "--eval")
        self.assertEqual("".join(trace["pieces"]), text)
        self.assertIn("", trace["pieces"])  # a character of several tokens
        for cut in [b"caf\xc3 x", b"caf\xc3", b"\xc3\xc3\xa9 \xe0\x80 \xa9\xff"]:
            trace = self.trace("-f", "-", "--eval", stdin=cut)
            self.assertEqual("".join(trace["pieces"]), cut.decode(errors="replace"))

    def test_any_bytes_obey_the_schema(self):
        source = random.Random(1)
        for text in [ODD, source.randbytes(200), b"a", b"\0"]:
            with self.subTest(text=text):
                trace = self.trace("-f", "-", "--eval", stdin=text)
                self.check(trace)
                self.assertEqual(trace["prompt_tokens"], len(trace["tokens"]))

    def test_scores_are_those_of_the_gates_drops(self):
        for policy in ["none", "h2o(rows=20,recent=5)", "streaming(sinks=2,recent=16)"]:
            self.assertIsNone(self.trace("-p", TEXT, "--eval", "--policy", policy)["gate_score"])
        trace = self.trace("-p", TEXT, "--eval", "-b", 1, "--policy", POLICIES[4])
        drops = [
            (score, until)
            for scores, drop_at in zip(trace["gate_score"], trace["drop_at"])
            for lane_scores, lane in zip(scores, drop_at)
            for score, until in zip(lane_scores, lane)
        ]
        self.assertTrue(all(score is None or (score < 0 <= until) for score, until in drops))
        self.assertTrue(any(score is not None for score, _ in drops))
        self.assertTrue(any(score is None and until >= 0 for score, until in drops))

    def test_lanes_per_head_are_there(self):
        self.assertEqual(len(self.trace("-p", TEXT, "--eval", "--policy", POLICIES[2])["drop_at"][0]), 2)

    def test_the_schema_refuses_what_is_no_trace(self):
        trace = self.trace("-p", "Some words", "--eval")
        for broken in [{"format": "pith-trace/2"}, {"drop_at": [[[-2]]]}, {"kept": 1.5}, {"tokens": [-1]}]:
            self.assertFalse(self.validator.is_valid(trace | broken), broken)


def seen(lane, j, query):
    return j <= query and (lane[j] < 0 or query < lane[j])


class Pictures(Case):
    def svg(self, *arguments, stdin=b""):
        path = self.folder / "a.svg"
        self.assertEqual(self.done(*arguments, "--svg", path, stdin=stdin), "")
        return xml.etree.ElementTree.fromstring(path.read_bytes())

    def rects(self, svg, colour):
        for path in svg:
            if path.get("fill") == colour and path.get("shape-rendering"):
                for rect in re.findall(r"M([-\d.]+) ([-\d.]+)h([-\d.]+)v([-\d.]+)", path.get("d")):
                    yield tuple(map(float, rect))

    def test_svg_is_xml_and_stays_on_its_page(self):
        for stdin in [TEXT.encode(), ODD, random.Random(2).randbytes(300), b"x" * 300, b"word " * 150, b"\n\n\n"]:
            for policy in [POLICIES[0], POLICIES[2]]:
                svg = self.svg("-f", "-", "--eval", "--policy", policy, stdin=stdin)
                _, _, width, height = map(float, svg.get("viewBox").split())
                for label in svg.iter("{http://www.w3.org/2000/svg}text"):
                    x, y = float(label.get("x")), float(label.get("y"))
                    self.assertTrue(0 <= x and x + float(label.get("textLength", 0)) <= width and 0 < y <= height)
                for path in svg.iter("{http://www.w3.org/2000/svg}path"):
                    for x, y, w, h in re.findall(r"M([-\d.]+) ([-\d.]+)h([-\d.]+)v([-\d.]+)", path.get("d")):
                        self.assertTrue(0 <= float(x) and float(x) + float(w) <= width)
                        self.assertTrue(0 <= float(y) and float(y) + float(h) <= height)

    def test_words_stand_apart(self):
        svg = self.svg("-p", TEXT, "--eval")
        boxes = [
            (float(t.get("x")), float(t.get("y")), float(t.get("textLength")))
            for t in svg.iter("{http://www.w3.org/2000/svg}text")
            if t.get("font-size") == "14" and t.get("textLength")
        ]
        self.assertGreater(len(boxes), 50)
        for (x, y, width), (next_x, next_y, _) in zip(boxes, boxes[1:]):
            self.assertTrue(next_y > y or next_x >= x + width - 0.15, (x, y, width, next_x))

    def test_maps_are_the_visible_pairs(self):
        trace = self.trace("-p", TEXT, "--eval")
        svg = self.svg("-p", TEXT, "--eval")
        n = len(trace["tokens"])
        self.assertLess(n, 300)  # a cell is a pair
        diagonal = list(self.rects(svg, "#d97706"))[1:]  # the first is the legend's
        self.assertEqual(len(diagonal), n * len(trace["drop_at"]))
        cell = diagonal[0][2]
        top = min(y for _, y, _, _ in diagonal)
        columns = [r for r in self.rects(svg, "#1f5fa8") if r[2] == cell and r[1] >= top]
        for layer, (lane,) in enumerate(trace["drop_at"]):
            left, upper = diagonal[layer * n][:2]
            drawn = {
                (round((x - left) / cell), q)
                for x, y, _, height in columns
                if 0 <= round((x - left) / cell) < n and 0 <= round((y - upper) / cell) < n
                for q in range(round((y - upper) / cell), round((y + height - upper) / cell))
            }
            self.assertEqual(drawn, {(j, q) for q in range(n) for j in range(q + 1) if seen(lane, j, q)})

    def test_words_struck_through_are_those_that_no_layer_holds(self):
        trace = self.trace("-p", TEXT, "--eval")
        forgotten = sum(all(lane[j] >= 0 for (lane,) in trace["drop_at"]) for j in range(len(trace["tokens"])))
        strikes = [
            p
            for p in self.svg("-p", TEXT, "--eval")
            if (p.get("stroke"), p.get("stroke-width")) == ("#b3261e", "1.2") and "C" not in p.get("d")
        ]
        self.assertGreater(forgotten, 0)
        self.assertEqual(len(strikes), forgotten)

    def test_arrows_of_a_layer_come_from_those_that_dropped(self):
        trace = self.trace("-p", TEXT, "--eval")
        n = len(trace["tokens"])
        for layer, (lane,) in enumerate(trace["drop_at"]):
            svg = self.svg("-p", TEXT, "--eval", "--layer", layer)
            strokes = [p for p in svg if p.get("fill") == "none"]
            strikes = [p for p in strokes if p.get("stroke-width") == "1.2"]
            self.assertEqual(len(strikes), sum(until >= 0 for until in lane))
            arrows = [p for p in strokes if "C" in p.get("d")][1:]  # the first is the legend's
            frames = [p for p in strokes if "C" not in p.get("d") and p.get("stroke-width") == "1.5"]
            self.assertEqual(len(frames), len({until for until in lane if 0 <= until < n}))
            runs = sum(0 <= until < n and until != before for until, before in zip(lane, [-1] + lane))
            lines = len({t.get("y") for t in svg.iter("{http://www.w3.org/2000/svg}text") if t.get("font-size") == "14"})
            self.assertTrue(runs <= len(arrows) < runs + lines, (runs, len(arrows)))

    @unittest.skipUnless(RASTER, "built without pictures")
    def test_png_is_the_svg_twice_as_large(self):
        for stdin in [TEXT.encode(), ODD, b"a"]:
            svg = self.svg("-f", "-", "--eval", "--png", self.folder / "a.png", stdin=stdin)
            with PIL.Image.open(self.folder / "a.png") as image:
                image.load()
                self.assertEqual(image.format, "PNG")
                for side, units in zip(image.size, svg.get("viewBox").split()[2:]):
                    self.assertAlmostEqual(side, 2 * float(units), delta=1)
                pixels = image.convert("RGB")
                x, y, width, height = next(self.rects(svg, "#d97706"))
                self.assertEqual(pixels.getpixel((int(2 * x + width), int(2 * y + height))), (0xD9, 0x77, 0x06))
                self.assertEqual(pixels.getpixel((1, 1)), (255, 255, 255))

    @unittest.skipUnless(RASTER, "built without pictures")
    def test_gif_has_a_frame_for_each_token(self):
        for arguments in [("-p", TEXT, "--eval", "--policy", POLICIES[2]), ("-p", "The old house", "-n", 20, "-s", 1)]:
            self.done(*arguments, "--gif", self.folder / "a.gif", "--png", self.folder / "a.png")
            n = len(self.trace(*arguments)["tokens"])
            self.assertLess(n, 160)
            with PIL.Image.open(self.folder / "a.gif") as animation, PIL.Image.open(self.folder / "a.png") as last:
                self.assertEqual(animation.n_frames, n)
                self.assertEqual(animation.info["loop"], 0)
                self.assertEqual(animation.size, tuple((side + 1) // 2 for side in last.size))
                ink = []  # dark pixels: the text and the maps only grow
                for frame in [0, n // 2, n - 1]:
                    animation.seek(frame)
                    ink.append(sum(p < 250 for p in animation.convert("L").tobytes()))
                self.assertTrue(ink[0] < ink[1] < ink[2], ink)
                self.assertGreaterEqual(animation.info["duration"], 2000)

    @unittest.skipUnless(RASTER, "built without pictures")
    def test_long_texts_give_few_frames(self):
        self.done("-p", "word " * 400, "--eval", "--gif", self.folder / "a.gif")
        with PIL.Image.open(self.folder / "a.gif") as animation:
            self.assertEqual(animation.n_frames, 160)

    @unittest.skipIf(RASTER, "built with pictures")
    def test_without_pictures_that_is_said(self):
        self.fails(4, "built without pictures", "-p", "a", "--png", self.folder / "a.png")
        self.fails(4, "built without pictures", "-p", "a", "--gif", self.folder / "a.gif")


class Show(Case):
    def test_without_colour(self):
        out = self.done("-p", TEXT, "--eval", "--show")
        self.assertNotIn("\x1b", out)
        trace = self.trace("-p", TEXT, "--eval")
        forgotten = [
            piece.strip()
            for j, piece in enumerate(trace["pieces"])
            if piece.strip() and all(lane[j] >= 0 for (lane,) in trace["drop_at"])
        ]
        struck = " ".join(re.findall(r"~([^~\n]+)~", out))
        for piece in forgotten:
            self.assertIn(piece, struck)
        plain = re.sub(r"[~‹›]", "", out)
        for line in TEXT.splitlines():
            self.assertIn(line, plain)

    def test_sparklines_are_the_rows_that_queries_see(self):
        for policy in POLICIES:
            out = self.done("-p", TEXT, "--eval", "--show", "--policy", policy)
            trace = self.trace("-p", TEXT, "--eval", "--policy", policy)
            n = len(trace["tokens"])
            rows = [
                [sum(seen(lane, j, q) for lane in layer for j in range(q + 1)) / len(layer) for q in range(n)]
                for layer in trace["drop_at"]
            ]
            top = max(1, max(map(max, rows)))
            lines = re.findall(r"^layer (\d+) +([▁-█]+) +(\d+) of (\d+) at the end", out, re.MULTILINE)
            self.assertEqual(len(lines), len(rows))
            for layer, curve, last, total in lines:
                values = rows[int(layer)]
                self.assertEqual((len(curve), int(total)), (min(40, n), n))
                self.assertAlmostEqual(int(last), values[-1], delta=0.5)
                for i, block in enumerate(curve):
                    part = values[i * n // len(curve) : (i + 1) * n // len(curve)]
                    height = sum(part) / len(part) / top * 8
                    self.assertTrue(abs(ord(block) - 0x2580 - height) <= 1.001 or block == "▁", (layer, i))

    def test_with_json_it_goes_to_stderr(self):
        finished = run("-p", "Some words", "--eval", "--show", "--json")
        self.assertEqual(json.loads(finished.stdout)["format"], "pith-trace/1")
        self.assertIn("layer 4", finished.stderr.decode())


def octave(n):
    if n < 2:
        return str(n)
    first = 1 << (n.bit_length() - 1)
    return f"{first}-{2 * first - 1}"


class AggregateTest(Case):
    context = 64

    def windows(self, text):
        """The tokens of the text in windows, as their own traces."""
        ids = json.loads(
            subprocess.run([TOOL, "tokenize", "-m", MODEL, "-p", text, "--json"], capture_output=True).stdout
        )["tokens"]
        return [ids[i : i + self.context] for i in range(0, len(ids), self.context)]

    def drops(self, ids, policy):
        path = self.folder / "ids.json"
        path.write_text(json.dumps(ids))
        command = [TOOL, "eval", "-m", MODEL, "--tokens", path, "--policy", policy, "--json"]
        drop_at = json.loads(subprocess.run(command, capture_output=True).stdout)["drop_at"]
        return [layer if isinstance(layer[0], list) else [layer] for layer in drop_at]

    def test_numbers_are_those_of_the_drops_of_each_window(self):
        text = TEXT * 3
        for policy in POLICIES:
            out = self.trace("-p", text, "--aggregate", "-c", self.context, "--policy", policy)
            windows = self.windows(text)
            self.assertGreater(len(windows), 3)
            self.assertEqual((out["format"], out["windows"]), ("pith-aggregate/1", len(windows)))
            self.assertEqual(out["tokens"], sum(map(len, windows)))
            bins = {"layer": {}, "distance": {}, "position": {}, "query": {}}  # [name] = [visible, pairs]
            for ids in windows:
                for layer, lanes in enumerate(self.drops(ids, policy)):
                    for lane in lanes:
                        for q in range(len(ids)):
                            for j in range(q + 1):
                                for view, key in [
                                    ("layer", str(layer)),
                                    ("distance", octave(q - j)),
                                    ("position", octave(j)),
                                    ("query", octave(q)),
                                ]:
                                    bin_ = bins[view].setdefault(key, [0, 0])
                                    bin_[0] += seen(lane, j, q)
                                    bin_[1] += 1
            for view, expected in bins.items():
                found = {b["bin"]: b["kept"] for b in out["by_" + view]}
                self.assertEqual(found.keys(), expected.keys())
                for key, (visible, pairs) in expected.items():
                    self.assertAlmostEqual(found[key], visible / pairs, places=9, msg=f"{policy} {view} {key}")
            classes = out["by_class"]
            pairs = sum(len(ids) * (len(ids) + 1) // 2 for ids in windows)
            self.assertAlmostEqual(sum(b["pairs"] for b in classes), pairs)
            self.assertAlmostEqual(sum(b["pairs"] * b["kept"] for b in classes) / pairs, out["kept"])

    def classes(self, text):
        """Pairs of each class in a single window, where nothing is dropped."""
        out = self.trace("-p", text, "--aggregate", "--policy", "none")
        self.assertEqual(out["windows"], 1)
        return {b["bin"]: b["pairs"] for b in out["by_class"]}

    def expect(self, text, marked):
        """`marked`: (class, the words or signs of it, in order)."""
        trace = self.trace("-p", text, "--eval")
        pieces, expected, at, words = trace["pieces"], {}, 0, list(marked)
        spans, position = [], 0
        for kind, word in words:
            position = text.index(word, position)
            spans.append((position, position + len(word), kind))
            position += len(word)
        for i, piece in enumerate(pieces):
            first = at + len(piece) - len(piece.lstrip())
            kind = next((k for begin, end, k in spans if begin <= first < end), "other word")
            if not piece.strip():
                kind = "blank"
            expected[kind] = expected.get(kind, 0) + len(pieces) - i
            at += len(piece)
        self.assertEqual("".join(pieces), text)
        self.assertEqual(self.classes(text), expected)

    def test_words_signs_and_numbers_have_their_class(self):
        self.expect(
            "Old Tom saw Mr. Smith, didn't he? The boy's dog ate 1,250.75 apples at 6:30. He said so.",
            [
                ("name", "Tom"), ("name", "Mr"), ("punctuation", "."), ("name", "Smith"), ("punctuation", ","),
                ("function word", "didn't"), ("function word", "he"), ("sentence end", "?"), ("function word", "The"),
                ("number", "1,250.75"), ("function word", "at"), ("number", "6:30"), ("sentence end", "."),
                ("function word", "He"), ("function word", "so"), ("sentence end", "."),
            ],
        )  # fmt: skip
        self.expect(
            '"Stop!" cried Anna. "Go now", they said... and Ben went. Nobody (Carl) knew\n\nMorning came',
            [
                ("punctuation", '"'), ("punctuation", "!"), ("punctuation", '"'), ("name", "Anna"),
                ("sentence end", "."), ("punctuation", '"'), ("punctuation", '",'), ("function word", "they"),
                ("punctuation", "..."), ("function word", "and"), ("name", "Ben"), ("sentence end", "."),
                ("punctuation", "("), ("punctuation", ")"),
            ],
        )  # fmt: skip

    def test_tables_say_the_same(self):
        path = self.folder / "a.csv"
        self.assertEqual(self.done("-p", TEXT, "--aggregate", "-c", 50, "--csv", path), "")
        out = self.trace("-p", TEXT, "--aggregate", "-c", 50)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(list(rows[0]), ["view", "bin", "layer", "pairs", "kept"])
        table = {(r["view"], r["bin"], r["layer"]): r for r in rows}
        self.assertEqual(len(table), len(rows))
        count = 0
        for view in ["distance", "class", "position", "query"]:
            for bin_ in out["by_" + view]:
                for layer, kept in [("all", bin_["kept"]), *enumerate(bin_["kept_per_layer"])]:
                    row = table[view, bin_["bin"], str(layer)]
                    self.assertEqual(int(row["pairs"]), bin_["pairs"])
                    self.assertAlmostEqual(float(row["kept"]), kept, places=8)
                    count += 1
        self.assertEqual(count + len(out["by_layer"]), len(rows))
        shown = self.done("-p", TEXT, "--aggregate", "-c", 50)
        self.assertIn("by distance", shown)
        self.assertIn("sentence end", shown)

    def test_charts_show_every_bin(self):
        svg = self.folder / "a.svg"
        self.done("-p", TEXT, "--aggregate", "--svg", svg, *(["--png", self.folder / "a.png"] if RASTER else []))
        out = self.trace("-p", TEXT, "--aggregate")
        labels = [t.text.replace("\xa0", " ") for t in xml.etree.ElementTree.parse(svg).getroot() if t.text and t.text.strip()]
        for view in ["layer", "distance", "class", "position", "query"]:
            for bin_ in out["by_" + view]:
                self.assertIn(bin_["bin"], labels)
        if RASTER:
            with PIL.Image.open(self.folder / "a.png") as image:
                image.load()
                self.assertGreater(min(image.size), 500)


class BadInput(Case):
    def test_outputs_that_cannot_be_written(self):
        nowhere = self.folder / "nowhere" / "x"
        flags = ["--svg", "--html"] + (["--png", "--gif"] if RASTER else [])
        for flag in flags:
            self.fails(3, re.escape(str(nowhere)), "-p", "a b", "--eval", flag, nowhere)
            self.fails(3, re.escape(str(self.folder)), "-p", "a b", "--eval", flag, self.folder)
            self.fails(3, "/dev/full", "-p", "a b", "--eval", flag, "/dev/full")
        for flag in ["--csv", "--svg"] + (["--png"] if RASTER else []):
            self.fails(3, re.escape(str(nowhere)), "-p", "a b", "--aggregate", flag, nowhere)

    def test_texts_that_are_none_or_too_long(self):
        self.fails(2, "trace: expected a text", "-p", "")
        self.fails(2, "trace: expected a text", "-f", "-", "--eval")
        self.fails(2, "trace: expected a text", "--eval")
        self.fails(2, "trace: expected a text", "--aggregate", "-f", "-")
        self.fails(3, "nowhere", "--aggregate", "-f", self.folder / "nowhere")
        self.fails(2, "--predict/-n: expected a whole number from -1 to 2147483647, found '-3'", "-p", "a", "-n", -3)
        self.fails(2, "--ctx-size/-c: expected a whole number from 0 to 2147483647, found '-3'", "-p", "a", "-c", -3)
        self.fails(2, "at most the context's 16", "-p", TEXT, "--eval", "-c", 16)

    def test_traces_to_compare_with_are_traces(self):
        page, other = self.folder / "a.html", self.folder / "b.json"
        for text in ["", "# no trace", "[1]", "{}", '{"format": 1}', '{"format": "pith-trace/2"}']:
            other.write_text(text)
            self.fails(3, re.escape(str(other)) + ": expected a trace", "-p", "a", "--html", page, "--compare", other)
        self.fails(3, "nowhere", "-p", "a", "--html", page, "--compare", self.folder / "nowhere")
        self.assertFalse(page.exists())
        other.write_text(self.done("-p", "a b", "--eval", "--json"))
        self.done("-p", "a b", "--eval", "--policy", "none", "--html", page, "--compare", other)

    def test_flags_that_do_not_go_together(self):
        for flag in [["--eval"], ["--show"], ["--html=x"], ["--gif=x"], ["--html=x", "--compare=x"]]:
            self.fails(2, "excludes", "-p", "a", "--aggregate", *flag)
        self.fails(2, "--csv requires --aggregate", "-p", "a", "--csv", "x")
        self.fails(2, "--compare requires --html", "-p", "a", "--compare", "x")
        self.fails(2, "excludes", "-p", "a", "--aggregate", "--layer", 1)
        self.fails(2, "--layer: expected a picture", "-p", "a", "--layer", 1)
        self.fails(2, "--layer: expected a layer below 5, found 5", "-p", "a", "--svg", self.folder / "x", "--layer", 5)
        self.assertFalse((self.folder / "x").exists())


if __name__ == "__main__":
    unittest.main()
