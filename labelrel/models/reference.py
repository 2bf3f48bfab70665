"""What a user calls a model: `hub:ORG/NAME`, a folder, `gguf:FILE` or a bundled alias, with options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labelrel.errors import ConfigError, InputError, UnknownNameError, near_match
from labelrel.models.bundled import BUNDLED

Kind = Literal["hub", "folder", "gguf", "alias"]

FORMS = "hub:ORG/NAME, a folder, gguf:FILE or a bundled alias"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_OPTIONS = ("layers",)


@dataclass(frozen=True)
class Reference:
    """A parsed model reference; `str()` gives the text back.

    Attributes:
        kind: where the model lies.
        target: ORG/NAME, a path or an alias, by kind.
        layers: keep the first so many decoder layers; null keeps all.
    """

    kind: Kind
    target: str
    layers: int | None = None

    def __str__(self) -> str:
        """Return the text that `parse_reference` reads as this reference."""
        prefix = f"{self.kind}:" if self.kind in ("hub", "gguf") else ""
        suffix = "" if self.layers is None else f"@layers={self.layers}"
        return f"{prefix}{self.target}{suffix}"


def parse_reference(text: str) -> Reference:
    """Read a model reference.

    A bare name is an alias where one of that name is bundled, otherwise a folder. Nothing is
    loaded or downloaded; only whether a named folder or file is there is looked up.

    Args:
        text: `hub:ORG/NAME`, a folder, `gguf:FILE` or an alias, optionally followed by `@layers=K`.

    Raises:
        ConfigError: an empty reference, an option that is unknown or has an impossible value, or
            a hub name that is none.
        InputError: a folder or file that does not exist.
        UnknownNameError: a bare name that is neither an alias nor a folder.

    Example:
        >>> parse_reference("hub:org/name@layers=10")
        Reference(kind='hub', target='org/name', layers=10)
    """
    body, layers = _split_options(text.strip())
    if not body:
        raise ConfigError(f"the model reference {text!r} names no model; expected {FORMS}.")
    scheme, _, rest = body.partition(":")
    if scheme == "hub":
        if not _HUB_NAME.fullmatch(rest):
            raise ConfigError(f"'{body}' is no model on the hub; write hub:ORG/NAME, such as hub:{_example()}.")
        return Reference("hub", rest, layers)
    if scheme == "gguf":
        if not Path(rest).expanduser().is_file():
            raise InputError(f"no such file: {rest or '(empty)'} (in the model reference '{text}').")
        return Reference("gguf", rest, layers)
    if body in BUNDLED:
        return Reference("alias", body, layers)
    if Path(body).expanduser().is_dir():
        return Reference("folder", body, layers)
    if _looks_like_path(body):
        hint = f"; a model on the hub is written hub:{body}" if _HUB_NAME.fullmatch(body) else ""
        raise InputError(f"no such model folder: {body}{hint}.")
    raise UnknownNameError(
        f"unknown model '{body}'{near_match(body, BUNDLED) or '.'} "
        f"Bundled: {', '.join(BUNDLED)}; otherwise write {FORMS}."
    )


def _split_options(text: str) -> tuple[str, int | None]:
    """Split `@layers=K` off the end; an `@` inside a path stays where it is."""
    body, at, option = text.rpartition("@")
    if not at or "/" in option or Path(text).expanduser().is_dir():
        return text, None
    key, equals, value = option.partition("=")
    if key not in _OPTIONS or not equals:
        raise ConfigError(
            f"unknown option '@{option}' in the model reference '{text}'{near_match(key, _OPTIONS) or ';'} "
            "the only one is @layers=K."
        )
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
        raise ConfigError(f"@layers must be a whole number of at least 1, got {value!r} in '{text}'.")
    return body, int(value)


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.startswith((".", "~"))


def _example() -> str:
    return next(iter(BUNDLED.values())).hub
