"""Rows and losses as a table, JSON lines and CSV."""

import csv
import io
import json
import os
from importlib import metadata
from pathlib import Path

import pytest

from taskstats.cli.formats import SCHEMA, Csv, Format, JsonLines, Table, about, encode
from taskstats.cli.tables import Column

COLUMNS = [Column("pid", "PID", lambda row: str(row["pid"]), 5)]
ROWS = [{"kind": "process", "pid": 7, "comm": "a\nb\x1b", "complete": True, "irq_count": None}]


def written(output: Format, capsys: pytest.CaptureFixture[str]) -> list[str]:
    output.head()
    output.rows(ROWS)
    output.loss(3, 512)
    output.rows([])
    output.note("a remark")
    return capsys.readouterr().out.splitlines()


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(Table(COLUMNS), capsys) == [
        "  PID",
        "    7",
        "-- 512 lost on CPU 3 before this line --",
        "a remark",
    ]


def test_elsewhere_than_on_a_terminal_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output = Table([Column("comm", "COMMAND", lambda _: "abcdefghij", 7, right=False), *COLUMNS])
    assert output.left_out == ""
    assert written(output, capsys)[1] == "abcdefghij     7"


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    head, *rest = map(json.loads, written(JsonLines(struct_version=16), capsys))
    assert head == {
        "kind": "stream",
        "schema": SCHEMA,
        "kernel": os.uname().release,
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "package_version": head["package_version"],
        "struct_version": 16,
    }
    assert rest == [*ROWS, {"kind": "loss", "cpu": 3, "lost": 512}]


@pytest.mark.parametrize("error", [metadata.PackageNotFoundError, PermissionError])
def test_without_its_metadata_the_version_is_unknown(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_name: str) -> str:
        raise error

    monkeypatch.setattr(metadata, "version", refused)
    assert about("stream", None)["package_version"] is None


def test_json_lines_of_chosen_names(capsys: pytest.CaptureFixture[str]) -> None:
    _, row, loss = map(json.loads, written(JsonLines(["pid", "irq_count", "nvcsw"]), capsys))
    assert list(row.items()) == [("kind", "process"), ("pid", 7), ("irq_count", None)]
    assert loss == {"kind": "loss", "cpu": 3, "lost": 512}


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("a\udcffb", r"a\xffb"),
        ("\U0001f600", "\U0001f600"),  # a pair of surrogates, in JSON
        (r"a\udcff", r"a\udcff"),
        ("\ud83d", r"\xd83d"),
    ],
)
def test_json_has_no_lone_surrogate(text: str, decoded: str) -> None:
    value = {"command": [text, 1, None, True], "tree": [{"comm": text}], "words": (text,)}
    line = encode(value)
    made = json.loads(line)
    assert made["command"] == [decoded, 1, None, True]
    assert (made["tree"], made["words"]) == ([{"comm": decoded}], [decoded])
    json.dumps(made, ensure_ascii=False).encode()  # fails on a lone surrogate


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\x09=1"),
        ("\r=1", "'\\x0d=1"),
        ("a=1", "a=1"),
        ("'", "'"),
        ("", ""),
        (-1, "-1"),
        (-1.5, "-1.5"),
        (None, ""),
        (True, "1"),
    ],
)
def test_a_text_in_csv_is_no_formula(
    value: object, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Csv(["comm"])
    output.head()
    output.rows([{"kind": "process", "comm": value}])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["comm"] == cell


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["pid", "comm", "complete", "irq_count", "cpu", "lost"]
    lines = written(Csv(names), capsys)
    assert len(lines) == 3, "a line each, whatever a name holds"
    row, loss = csv.DictReader(io.StringIO("\n".join(lines)))
    assert list(row) == ["kind", *names]
    assert list(row.values()) == ["process", "7", "a\\x0ab\\x1b", "1", "", "", ""]
    assert list(loss.values()) == ["loss", "", "", "", "", "3", "512"]
