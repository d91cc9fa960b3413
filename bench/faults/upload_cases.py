"""The hostile files: every kind that was thought of, then good files spoilt at random."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from typing import Any

from peft_lab.training.tasks import own

BYTES = own.MAX_BYTES
_MARKUP = (
    "<script>alert(1)</script>",
    "<img src=http://foreign.invalid/x>",
    "![x](http://foreign.invalid/x)",
    "[a](javascript:b)",
    "`code`",
    "**bold**",
    "$\\frac{1}{0}$",
    ":red[x]",
    ":material/error:",
    "=cmd|'/c calc'!A1",
    "@SUM(1+1)",
    "+1",
    "-1",
    "\x1b[31mred",
    "a\tb",
    "{{x}}",
    "%s%n",
    "../../etc/passwd",
    "\u202eright to left",
    "\ufeffmark",
    "nan",
    "None",
    "true",
)


def _rows(header: str, rows: list[tuple[Any, ...]], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _good(amount: int = 20) -> list[tuple[Any, ...]]:
    return [(f"sentence number {n}", ("good", "bad")[n % 2]) for n in range(amount)]


def _lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def _to(size: int, piece: bytes, head: bytes = b"") -> bytes:
    return (head + piece * (size // len(piece) + 1))[:size]


def listed() -> Iterator[tuple[str, str, bytes]]:
    """What it is, its file name, its bytes."""
    head = b"text,label\n"
    good = _rows("text,label", _good())
    for what, data in (
        ("300,000 columns", b",".join(b"column%d" % n for n in range(300_000)) + b"\n"),
        ("300,000 equal columns", b"text," * 300_000 + b"label\n"),
        ("900,000 nameless columns", _to(BYTES, b",")),
        ("a header without an end", _to(BYTES, b"x")),
        ("five million bytes of short rows", _to(BYTES, b"a,b\n", head)),
        ("two million short rows", _to(BYTES, b"a\n", b"text\n")),
        ("only line ends", _to(BYTES, b"\n")),
        ("only carriage returns", _to(BYTES, b"\r", head)),
        ("only quotes", _to(BYTES, b'"', head)),
        ("only separators", _to(BYTES, b",", head)),
        ("only separators of three kinds", _to(BYTES, b",;\t", head)),
        ("a cell of five million bytes", _to(BYTES, b"x", head)),
        ("a quoted cell of five million bytes", _to(BYTES, b"x\n", head + b'"')),
        ("cells just under the limit", head + (b"x" * 131_000 + b",a\n") * 38),
        (
            "a thousand columns and many rows",
            b"text,label," + b",".join(b"c%d" % n for n in range(998)) + b"\n" + b"a,b\n" * 19_000,
        ),
        ("1,001 columns", b",".join(b"c%d" % n for n in range(1001)) + b"\n"),
        (
            "the largest that is taken",
            head
            + b"".join(b"%d %s,%s\n" % (n, b"word " * 46, b"ab"[n % 2 : n % 2 + 1]) for n in range(20_000)),
        ),
        ("20,001 rows", head + b"".join(b"%d,a\n" % n for n in range(20_001))),
        ("one byte too many", b"x" * (BYTES + 1)),
        ("twenty million bytes", b"x" * 20_000_000),
        ("nothing", b""),
        ("blanks", b" \n\t\r\n"),
        ("a byte order mark", b"\xef\xbb\xbf"),
        ("one byte", b"x"),
        ("NUL bytes", b"\0" * 1000),
        ("a NUL in a row", good + b"\na\0,b"),
        ("a NUL at the end of 5 MB", _to(BYTES - 1, b"a,b\n", head) + b"\0"),
        ("UTF-16 little", good.decode().encode("utf-16")),
        ("UTF-16 big", b"\xfe\xff" + good.decode().encode("utf-16-be")),
        ("UTF-16 without a mark", good.decode().encode("utf-16-le")),
        ("UTF-32", good.decode().encode("utf-32")),
        ("UTF-7", "text,label\ncafé,b".encode("utf-7")),
        ("Latin-1", "text,label\ncafé,b".encode("latin-1")),
        ("half a character", good + b"\n\xe2\x82"),
        ("overlong UTF-8", good + b"\n\xc0\xaf,x"),
        ("CESU-8 surrogates", good + b"\n\xed\xa0\x80,x"),
        ("bad bytes at the end of 5 MB", _to(BYTES - 1, b"a,b\n", head) + b"\xff"),
        ("a mark in the middle", good + b"\n\xef\xbb\xbfx,good"),
        ("two marks", b"\xef\xbb\xbf\xef\xbb\xbf" + good),
        ("a zip archive", b"PK\x03\x04" + bytes(range(1, 200))),
        ("gzip", b"\x1f\x8b\x08" + bytes(range(1, 255))),
        ("an ELF file", b"\x7fELF" + b"\1" * 500),
        ("PDF", b"%PDF-1.7\n" + b"x" * 500),
        ("random bytes", random.Random(1).randbytes(100_000)),
        ("an open quote", good + b'\n"never closed,good'),
        ("a stray quote", good + b'\na"b,good'),
        ("quotes within quotes", good + b'\n"a""b""",good'),
        ("a quote after a quote", good + b'\n"a"b,good'),
        ("too many cells", good + b"\na,b,c,d"),
        ("one cell", good + b"\na"),
        ("a column twice", _rows("text,text,label", [("a", "b", "c")])),
        ("a column twice but for case", _rows("text,TEXT ,label", [("a", "b", "c")])),
        ("no such columns", _rows("a,b", _good())),
        ("all four columns", _rows("text,label,prompt,completion", [("a", "b", "c", "d")])),
        ("only a header", head),
        ("seven rows", _rows("text,label", _good(7))),
        ("one class", _rows("text,label", [(f"t{n}", "a") for n in range(30)])),
        ("21 classes", _rows("text,label", [(f"t{n}", f"l{n % 21}") for n in range(90)])),
        ("a class of one", _rows("text,label", [*_good(), ("x", "rare")])),
        ("a class for every row", _rows("text,label", [(f"t{n}", f"l{n}") for n in range(19_000)])),
        ("one text again and again", _rows("text,label", [("same", "ab"[n % 2]) for n in range(10_000)])),
        (
            "texts that differ in spaces",
            _rows("text,label", [(" " * n + "x", "ab"[n % 2]) for n in range(100)]),
        ),
        ("blank cells", _rows("text,label", [("", "a")] * 10_000)),
        ("a label of 61 characters", _rows("text,label", [*_good(), ("x", "y" * 61)])),
        ("a text of 4,001 characters", _rows("text,label", [*_good(), ("x" * 4001, "good")])),
        ("a zero-width label", _rows("text,label", [*_good(), ("x", "\u200b")])),
        ("a text of zero-width spaces", _rows("text,label", [*_good(), ("\u200b" * 9, "good")])),
        ("combining accents", _rows("text,label", [*_good(), ("x" + "\u0301" * 3000, "good")])),
    ):
        yield what, "a.csv", data
    for what, label in (
        ("a zero-width space", "good\u200b"),
        ("a word joiner", "go\u2060od"),
        ("a mark", "\ufeffgood"),
        ("a soft hyphen", "go\u00adod"),
        ("a variation selector", "good\ufe0f"),
        ("right to left", "\u200fgood"),
        ("a Hangul filler", "good\u3164"),
    ):
        yield (
            f"labels that differ in {what}",
            "a.csv",
            _rows("text,label", [*_good(), ("x", label), ("y", label)]),
        )
    for what, one, two in (
        ("composed and not", "caf\u00e9", "cafe\u0301"),
        ("a no-break space", "not good", "not\u00a0good"),
        ("a thin space", "not good", "not\u2009good"),
        ("a full-width space", "not good", "not\u3000good"),
        ("two spaces", "not good", "not  good"),
        ("Ångström", "\u00c5", "\u212b"),
    ):
        rows = [(f"t{n}", (one, two)[n % 2]) for n in range(20)]
        yield f"labels alike: {what}", "a.csv", _rows("text,label", rows)
    for text in _MARKUP:
        yield (
            f"label {text!r:.30}",
            "a.csv",
            _rows("text,label", [(f"t{n}", (text, "b")[n % 2]) for n in range(20)]),
        )
        yield f"column {text!r:.30}", "a.csv", _rows(f"{text.replace(',', '')},label", _good())
    for name in (
        "",
        ".csv",
        "a.xlsx",
        "a.csv.exe",
        "a" * 5000 + ".csv",
        "../../a.csv",
        "a\0.csv",
        "<img src=x>.csv",
        "![](x).txt",
        "a.csv\n",
    ):
        yield f"named {name!r:.30}", name, good
    for what, data in (
        ("nested lists", b'{"text": ' + b"[" * 2_400_000),
        ("nested and closed lists", b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}"),
        ("nested objects", b'{"a":' * 900_000),
        ("deep on every line", (b'{"text": ' + b"[" * 400 + b"]" * 400 + b"}\n") * 6_000),
        ("a list of a million lists", b'{"text": [' + b"[]," * 1_600_000 + b"1]}"),
        ("a list of objects", b'{"text": [' + b'{"a":1},' * 600_000 + b"1]}"),
        ("450,000 keys", b"{" + b",".join(b'"%d":1' % n for n in range(450_000)) + b"}"),
        ("new keys on every line", _lines([{f"k{n}": 1, "text": "x", "label": "y"} for n in range(15_000)])),
        ("a key many times", b"{" + b'"text":1,' * 500_000 + b'"label":2}'),
        ("a key twice but for case", b'{"text": 1, "Text": 2}'),
        ("a key of five million bytes", b'{"' + b"k" * 4_900_000 + b'": 1}'),
        ("a text of five million bytes", b'{"text": "' + b"k" * 4_900_000 + b'"}'),
        ("a number of a million digits", b'{"text": ' + b"9" * 1_000_000 + b"}"),
        ("a huge exponent", b'{"text": 1e999999999, "label": 1}'),
        ("NaN and Infinity", _lines([{"text": float("nan"), "label": float("inf")}] * 9)),
        ("numbers for text", _lines([{"text": n, "label": n % 2} for n in range(20)])),
        ("half surrogates", _lines([{"text": f"\ud800{n}", "label": "a"} for n in range(20)])),
        ("escaped NULs", _lines([{"text": f"a\0{n}", "label": "ab"[n % 2]} for n in range(20)])),
        ("a list", b"[1]"),
        ("one array over lines", json.dumps([{"text": "a", "label": "b"}] * 9, indent=1).encode()),
        ("null", b"null"),
        ("a text", b'"x"'),
        ("single quotes", b"{'text': 'a'}"),
        ("comments", b'{"text": "a"} // b'),
        ("two on a line", b'{"text": "a"}{"text": "b"}'),
        ("five million line ends", _to(BYTES, b"\n")),
        ("two million empty objects", _to(BYTES - 1, b"{}\n")),
        ("lines of braces", _to(BYTES, b"{\n")),
        ("prompts without answers", _lines([{"prompt": f"p{n}"} for n in range(20)])),
        (
            "Unicode line separators",
            _lines([{"text": f"a\u2028{n}", "label": "ab"[n % 2]} for n in range(20)]),
        ),
    ):
        yield what, "a.jsonl", data


def _random(rng: random.Random) -> tuple[str, str, bytes]:
    """A good file, spoilt in a few random places."""
    as_json = rng.random() < 0.5
    rows = _good(rng.choice((8, 30, 400)))
    data = bytearray(
        _lines([dict(zip(("text", "label"), row, strict=True)) for row in rows])
        if as_json
        else _rows("text,label", rows)
    )
    said = []
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        piece = rng.choice(
            (
                b"\0",
                b'"',
                b"\xff",
                b"\r",
                b"\n\n",
                b"\xe2\x80\x8b",
                b"[" * 500,
                b",",
                b"\\u0000",
                b"\\ud800",
                rng.randbytes(40),
                b"}{",
            )
        )
        data[at : at + rng.choice((0, 1, len(piece)))] = piece
        said.append(f"{piece[:8]!r} at {at}")
    return ", ".join(said), "a.jsonl" if as_json else "a.csv", bytes(data)


def cases(amount: int = 200, seed: int = 0) -> Iterator[tuple[str, str, bytes]]:
    """The listed ones first, then good files spoilt at random."""
    known = [*listed()]
    yield from known[:amount]
    rng = random.Random(seed)
    for _ in range(amount - len(known)):
        yield _random(rng)
