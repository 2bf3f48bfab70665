"""A name → thing table with good manners: no second owner, near matches for unknown names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from labelrel.errors import UnknownNameError, near_match

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, listed in order of registration.

    Args:
        kind: what an error message calls one entry, such as "scoring method".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name`; a name has one owner.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates under `name`."""
        return lambda entry: self.add(name, entry)

    def get(self, name: str, *, where: str = "") -> T:
        """Return the entry called `name`.

        Args:
            name: the registered name.
            where: where the name was read, for the message ("params.yaml (score.methods)").

        Raises:
            UnknownNameError: no such name; the message has the near match and all names.
        """
        try:
            return self._entries[name]
        except KeyError:
            place = f" in {where}" if where else ""
            raise UnknownNameError(
                f"unknown {self.kind} '{name}'{place}{near_match(name, self._entries) or '.'} "
                f"Known: {', '.join(self.names())}."
            ) from None

    def names(self) -> list[str]:
        """Return all names in order of registration."""
        return list(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
