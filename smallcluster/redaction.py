"""Hides secrets. Everything that leaves the harness for a person or a file goes through here."""

from __future__ import annotations


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Hide every secret in a text that goes into a report, a log or a transcript."""
    for secret in secrets:
        text = text.replace(secret, "(hidden)")
    return text
