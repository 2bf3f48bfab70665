"""The whole report: what is written, whole or not at all, and safe to open."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_results import write_labels, write_results
from four_tasks import write_four

from labelrel.errors import InputError
from labelrel.report import FIGURES, build_report


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path / "data")


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering is most of the time, and only the first test here looks at its result."""
    monkeypatch.setattr("labelrel.report.figures.png", lambda figure: PNG)


def build(data: Path, out: Path, **options: Any) -> dict[str, Any]:
    return build_report(data, out, bootstrap=200, **options)


def test_everything_is_written_and_told(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = build(data, out)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        "table.csv",
        "table.json",
        "metrics.json",
        "scores.csv",
        "report.html",
        *(f"figures/{name}.png" for name in FIGURES if name != "positions"),  # there are no answers
    }
    assert all(figure.read_bytes().startswith(PNG) for figure in (out / "figures").iterdir())
    assert result["best"] == "filter"
    assert [row["method"] for row in result["rows"]] == ["floor", "filter", "naive", "random", "ceiling"]
    assert result["folders"]["filter"] == [data / "align" / "filter-42"]
    assert all(file.is_file() for file in result["files"])
    table = json.loads((out / "table.json").read_text(), parse_constant=pytest.fail)
    assert table["rows"] == result["rows"]
    assert table["answer"] == result["answer"]
    assert json.loads((out / "metrics.json").read_text())["filter"]["test_accuracy"] == 0.7
    # filter read the entropies; their label quality ranks right labels 1, 1, .6 against a wrong 1: AUROC 1/3
    assert result["rows"][1]["label_auroc"] == pytest.approx(1 / 3)


@pytest.mark.usefixtures("quick")
def test_page_stands_alone(data: Path, tmp_path: Path) -> None:
    result = build(data, tmp_path / "report", about={"git commit": "c0ffee"})
    page = (tmp_path / "report" / "report.html").read_text()
    assert result["answer"] in page
    assert "c0ffee" in page
    assert page.count("data:image/png;base64,") == 12  # six figures, each for light and dark
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"https?://|@import|url\(", page)
    assert re.findall("<link[^>]*>", page) == ['<link rel="icon" href="data:,">']
    assert page.count("<script") == page.count("<style") == 1
    assert len(page) < 3_000_000


@pytest.mark.usefixtures("quick")
def test_text_from_data_is_escaped(data: Path, tmp_path: Path) -> None:
    attack = "<script>alert('x')</script> & \"more\""
    write_labels(data, {"<b>d": ("3", {"1": 5}), "a": ("0", {"0": 5})}, question=attack)
    build(data, tmp_path / "report", about={"<i>name": "<img src=x onerror=y>"})
    page = (tmp_path / "report" / "report.html").read_text()
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;more&quot;" in page
    assert "&lt;b&gt;d" in page
    assert not re.search(r"<b>d|<i>name|<img src=x", page)
    assert page.count("<script") == 1


@pytest.mark.usefixtures("quick")
def test_page_allows_its_own_style_and_script_alone(data: Path, tmp_path: Path) -> None:
    build(data, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.usefixtures("quick")
def test_contents_lead_to_every_section(data: Path, tmp_path: Path) -> None:
    build(data, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert re.findall('<a href="#([^"]*)">', page) == re.findall('<section id="([^"]*)">', page)
    assert "how-to-get-these-numbers-again" in re.findall('<section id="([^"]*)">', page)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("task", ["hellaswag", "ethics_commonsense", "gsm8k"])
def test_every_kind_of_task_has_its_figures(task: str, tmp_path: Path) -> None:
    methods = ("share", "entropy", "reliability")
    data = write_four(tmp_path / "data", task, num_items=40, methods=methods)
    build(data, tmp_path / "report")
    drawn = {file.stem for file in (tmp_path / "report" / "figures").iterdir()}
    assert drawn == set(FIGURES) - ({"positions"} if task == "gsm8k" else set())  # open answers have no position
    page = (tmp_path / "report" / "report.html").read_text()
    assert len(page) < 3_000_000
    if task == "ethics_commonsense":
        assert '<td class="prose">unacceptable</td>' in page  # the examples are in words


@pytest.mark.usefixtures("quick")
def test_long_texts_are_cut_and_wrap(data: Path, tmp_path: Path) -> None:
    write_labels(data, {"d": ("3", {"1": 5}), "a": ("0", {"0": 5})}, question="very long " * 400)
    build(data, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("very long") == 40
    assert '<td class="prose">Rome</td><td class="prose">Lima</td>' in page


@pytest.mark.usefixtures("quick")
def test_broken_answers_are_told(data: Path, tmp_path: Path) -> None:
    (data / "answers.parquet").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"answers\.parquet"):
        build(data, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("quick")
def test_same_input_same_bytes(data: Path, tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        build(data, tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]


@pytest.mark.usefixtures("quick")
def test_failure_leaves_the_old_report(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    build(data, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    (data / "align" / "naive-42" / "predictions.parquet").write_bytes(b"torn")
    with pytest.raises(InputError, match="naive-42"):
        build(data, out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.usefixtures("quick")
def test_failure_writes_nothing(data: Path, tmp_path: Path) -> None:
    (data / "supervise" / "run.json").unlink()
    with pytest.raises(InputError, match="labelrel supervise"):
        build(data, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("quick")
def test_other_files_stay_and_outdated_figures_go(data: Path, tmp_path: Path) -> None:
    figures = tmp_path / "report" / "figures"
    figures.mkdir(parents=True)
    (figures / "mine.png").write_bytes(b"mine")
    (figures / "loss.png").write_bytes(b"old")
    for history in data.rglob("history.parquet"):
        history.unlink()
    build(data, tmp_path / "report")
    assert (figures / "mine.png").read_bytes() == b"mine"
    assert not (figures / "loss.png").exists()


@pytest.mark.usefixtures("quick")
def test_undefined_pgr_is_shown_as_such(data: Path, tmp_path: Path) -> None:
    for file in (data / "align" / "ceiling-42").iterdir():
        file.unlink()
    result = build(data, tmp_path / "report")
    assert {row["pgr"] for row in result["rows"]} == {None}
    assert "undefined" in (tmp_path / "report" / "report.html").read_text()
    assert "pgr" not in json.loads((tmp_path / "report" / "metrics.json").read_text())["filter"]


def test_room_is_imported_without_matplotlib() -> None:
    program = (
        "import sys, labelrel.report; print(sorted({'matplotlib', 'pandas', 'mlflow', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
