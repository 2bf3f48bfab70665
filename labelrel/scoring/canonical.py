"""Canonical forms of open answers; they stand on the ground floor, since tasks need them too."""

from labelrel.canonical import canonicalise, canonicalisers, number, text

__all__ = ["canonicalise", "canonicalisers", "number", "text"]
