"""Tables on stdout: aligned in a pipe, drawn in a terminal, inert in both."""

from __future__ import annotations

import sys

from labelrel.show import print_table

ROWS = [{"name": "a", "value": 0.5, "count": 12}, {"name": "longer", "value": None, "count": 3}]


def test_a_pipe_gets_aligned_columns(capsys):
    print_table(ROWS, "title")
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "  name    value  count",
        "  a       0.500     12",
        "  longer             3",
    ]


def test_a_terminal_gets_a_drawing_of_the_same(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table([{"name": "[red]x[/red]", "value": 0.25}])
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out  # text of the data is not markup
    assert "0.250" in out
    assert "━" in out
