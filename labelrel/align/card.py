"""The model card of an adapter: what it is, what it was made from, how to load it and how to make it again.

Equal runs give equal bytes, so nothing that names the run itself or the machine is in it: no times, no
MLflow run, no commit, no folders. `run.json` keeps those that matter.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from labelrel import __version__
from labelrel.evaluate import interval
from labelrel.files import replacing
from labelrel.models.bundled import BUNDLED
from labelrel.tasks import tasks

CARD = "README.md"

_ROLES = {
    "method": "trained on weak labels, selected by this method",
    "control": "trained on weak labels, as a control: how they were selected is not open to a method",
    "ceiling": "trained on gold labels: the strong ceiling",
    "floor": "the weak supervisor, trained on the gold labels of weak_train: the floor",
}
_DATA_SETS = {
    "ethics_commonsense": "hendrycks/ethics",
    "gsm8k": "openai/gsm8k",
    "hellaswag": "Rowan/hellaswag",
    "mmlu": "cais/mmlu",
}
_REFERENCE = re.compile(r"(?P<body>.*?)(?:@layers=(?P<layers>\d+))?", re.DOTALL)
_ABSOLUTE = re.compile(r"(~|/|\\\\|[A-Za-z]:[\\/])\S*")
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # what a reader of YAML refuses or folds


def write_card(
    folder: Path, record: Mapping[str, Any], predictions: pl.DataFrame | None = None, *, merged: bool = False
) -> None:
    """Write the card of a run into the folder of its adapter, or of the model it was merged into.

    Args:
        folder: an existing folder; gets `README.md`.
        record: what `run.json` says; whatever it lacks is left out.
        predictions: on the test split, for the accuracy; None leaves it out.
        merged: whether the folder holds a whole model.
    """
    seed = (record.get("params") or {}).get("base.seed", 0)
    known = {**record, "accuracy": None if predictions is None else measured(predictions, seed)}
    with replacing(folder / CARD) as temporary:
        temporary.write_text(model_card(known, merged=merged), encoding="utf-8")


def measured(predictions: pl.DataFrame, seed: int = 0) -> dict[str, Any] | None:
    """Return the test accuracy with its 95% bootstrap interval, for `model_card`; None without gold labels."""
    correct = predictions["correct"].drop_nulls().cast(pl.Float64)
    if correct.is_empty():
        return None
    found = interval(correct.to_numpy(), seed=seed)
    return {"value": found.value, "low": found.low, "high": found.high, "items": found.n}


def model_card(record: Mapping[str, Any], *, merged: bool = False) -> str:
    """Return a model card: Markdown with YAML front matter, as model hubs read it.

    Args:
        record: what `run.json` says (`method`, `role`, `seed`, `loss`, `task`, `model`, `num_rows`, `num_items`,
            `params`, `comparison`, `inputs`), and `accuracy` as `measured` returns it. All may be missing;
            other keys are not read.
        merged: whether the card is of a whole model, the adapter merged into its base.
    """
    parts = [
        _front_matter(record, merged),
        f"# {_title(record, merged)}",
        _summary(record, merged),
        *_section("What it is", _facts(record)),
        *_section("What it was made from", _lineage(record)),
        *_section("Settings", _settings(record)),
        *_section("Load it", _loading(record, merged)),
        *_section("Make it again", _again(record, merged)),
    ]
    text = "\n\n".join(parts) + "\n"
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text


def _section(title: str, lines: Iterable[str]) -> list[str]:
    text = "\n".join(lines)
    return [f"## {title}", text] if text else []


def _front_matter(record: Mapping[str, Any], merged: bool) -> str:
    tags = ["labelrel", "weak-to-strong", *([] if merged else ["lora"])]
    hub, data = _base(record)[1], _DATA_SETS.get(str(record.get("task")))
    lines = [f"base_model: {_yaml(hub)}"] if hub else []
    lines += [f"base_model_relation: {'merge' if merged else 'adapter'}"] if hub else []
    lines += [f"library_name: {'transformers' if merged else 'peft'}", "pipeline_tag: text-generation", "tags:"]
    lines += [f"- {tag}" for tag in tags]
    lines += ["datasets:", f"- {_yaml(data)}"] if data else []
    lines += ["metrics:", "- accuracy"] if record.get("accuracy") else []
    return "\n".join(["---", *lines, "---"])


def _title(record: Mapping[str, Any], merged: bool) -> str:
    name, seed = record.get("method"), record.get("seed")
    made = " ".join(
        [*([_code(name)] if name is not None else []), *([f"(seed {_code(seed)})"] if seed is not None else [])]
    )
    return f"{'Model' if merged else 'Adapter'} {made}".rstrip()


def _summary(record: Mapping[str, Any], merged: bool) -> str:
    base, _, layers = _base(record)
    of = f"{_code(base)}{f', its first {layers} layers' if layers else ''}" if base else "a language model"
    what = f"{of} with a low-rank adapter merged into it" if merged else f"A low-rank adapter for {of}"
    what = what[0].upper() + what[1:]
    asked = " It answers prompts that are worded as the settings below say." if record.get("params") else ""
    return f"{what}, trained with labelrel {__version__}.{asked}"


def _facts(record: Mapping[str, Any]) -> list[str]:
    role, rows, items = record.get("role"), record.get("num_rows"), record.get("num_items")
    task, loss, accuracy = record.get("task"), _loss(record), record.get("accuracy")
    lines = []
    if "method" in record:
        lines.append(f"- method: {_code(record['method'])}")
    if role is not None:
        lines.append(f"- role: {_code(role)}{f', {_ROLES[role]}' if role in _ROLES else ''}")
    if "seed" in record:
        lines.append(f"- seed: {_code(record['seed'])}, of the adapter's first weights and of the data order")
    if loss is not None:
        lines.append(f"- loss: {_code(loss)}")
    if task is not None:
        lines.append(f"- task: {_code(task)}{f' ({_plain(tasks.get(task).summary)})' if task in tasks else ''}")
    if rows is not None:
        lines.append(f"- training examples: {_code(rows)}{'' if items is None else f', of {_code(items)} items'}")
    if accuracy:
        lines.append(
            f"- test accuracy: {accuracy['value']:.3f}, 95% interval {accuracy['low']:.3f} to {accuracy['high']:.3f} "
            f"(bootstrap over {accuracy['items']} items)"
        )
    return lines


def _loss(record: Mapping[str, Any]) -> Any:
    """Return how the loss is told: by the record, or by the settings of the stage."""
    return record.get("loss", (record.get("params") or {}).get("align.loss"))


def _lineage(record: Mapping[str, Any]) -> list[str]:
    inputs = record.get("inputs") or {}
    lines = [
        f"- {_plain(name)}, {_code(_last(file['path']))}: {_code(file['sha256'])}" for name, file in inputs.items()
    ]
    lines = ["SHA-256 of the files:", "", *lines] if lines else []
    if record.get("comparison") is not None:
        told = f"Comparison {_code(record['comparison'])}: runs that share it had the same items, answers and budget."
        lines += [*([""] if lines else []), told]
    return lines


def _settings(record: Mapping[str, Any]) -> list[str]:
    params = {key: _shared(key, value) for key, value in (record.get("params") or {}).items()}
    return _fenced("json", json.dumps(params, indent=2, sort_keys=True, ensure_ascii=False)) if params else []


def _loading(record: Mapping[str, Any], merged: bool) -> list[str]:
    base, _, layers = _base(record)
    if merged:
        code = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'folder = "."  # of this file',
            "model = AutoModelForCausalLM.from_pretrained(folder)",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
        ]
        return _fenced("python", "\n".join(code))
    if base is None:
        return []
    kind, _, name = base.partition(":")
    cut = f", num_hidden_layers={layers}" if layers else ""
    told = "  # the folder that `labelrel fetch` prints for it" if kind == "gguf" or base in BUNDLED else ""
    code = [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"base = {json.dumps(name if kind == 'hub' else base)}{told}",
        'adapter = "."  # the folder of this file',
        f"model = AutoModelForCausalLM.from_pretrained(base{cut})",
        "model = PeftModel.from_pretrained(model, adapter)  # or model.load_adapter(adapter), without peft's wrapper",
        "tokenizer = AutoTokenizer.from_pretrained(base)",
    ]
    return _fenced("python", "\n".join(code))


def _again(record: Mapping[str, Any], merged: bool) -> list[str]:
    base, _, layers = _base(record)
    if base is None or "method" not in record:
        return []
    reference = f"{base}@layers={layers}" if layers else base
    training = _last((record.get("inputs") or {}).get("training", {}).get("path", f"{record['method']}.parquet"))
    if record.get("role") == "floor":
        command = ["labelrel", "supervise", "--model", reference]
    else:
        command = ["labelrel", "align", "--train", f"data/training/{training}", "--model", reference]
        command += ["--seed", str(record["seed"])] if "seed" in record else []
    lines = [f"$ {shlex.join(command)}"]
    if merged:
        folder = (
            "data/supervise" if record.get("role") == "floor" else f"data/align/{record['method']}-{record.get('seed')}"
        )
        lines.append(f"$ {shlex.join(['labelrel', 'merge', folder, '--model', reference, '-o', 'merged'])}")
    return [
        "In a project with these settings and files:",
        "",
        *_fenced("console", "\n".join(lines)),
    ]


def _base(record: Mapping[str, Any]) -> tuple[str | None, str | None, int | None]:
    """Return how the base is called, its id on the hub where it has one, and how many of its layers are used."""
    reference = record.get("model")
    if reference is None:
        return None, None, None
    found = _REFERENCE.fullmatch(str(reference))
    assert found  # any text matches
    body, layers = found["body"], found["layers"]
    scheme, _, rest = body.partition(":")
    number = int(layers) if layers else None
    if scheme == "hub":
        return body, rest, number
    if scheme == "gguf":
        return f"gguf:{_last(rest)}", None, number
    if body in BUNDLED:
        return body, BUNDLED[body].hub, number
    return _last(body), None, number


def _shared(key: str, value: Any) -> Any:
    """Return a setting as others may read it: of a file or folder of this machine only its name."""
    if isinstance(value, list):
        return [_shared(key, entry) for entry in value]
    if isinstance(value, dict):
        return {name: _shared(name, entry) for name, entry in value.items()}
    if not isinstance(value, str):
        return value
    if key.rpartition(".")[2] == "model":
        base, _, layers = _base({"model": value})
        return f"{base}@layers={layers}" if layers else base
    return _last(value) if _ABSOLUTE.fullmatch(value) else value


def _last(path: str) -> str:
    return re.split(r"[\\/]", str(path).rstrip("\\/"))[-1]


def _code(value: Any) -> str:
    """Return a text of the data as inline code that it cannot break out of."""
    text = " ".join(str(value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True)).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    blank = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def _fenced(language: str, text: str) -> list[str]:
    """Return the lines of a code block that nothing in it can close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}{language}", text, fence]


def _plain(text: str) -> str:
    """Return a text with Markdown's own characters escaped."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _yaml(text: str) -> str:
    """Return a text as a YAML scalar: JSON's quoting, which YAML shares."""
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
