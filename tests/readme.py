"""The blocks of the README, for tests that run what it shows."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^\+\+\+ (\S+)\n", re.MULTILINE)


def block(language: str, part: str) -> str:
    """The only block in a language that contains ``part``."""
    blocks = _FENCE.findall(README.read_text(encoding="utf-8"))
    (found,) = (text for kind, text in blocks if kind == language and part in text)
    return found


def hunks(name: str) -> list[str]:
    """The places that the README's diff of a file changes."""
    _, *parts = _FILE.split(block("diff", f"+++ {name}\n"))
    diff = dict(zip(parts[::2], parts[1::2], strict=True))[name]
    return [hunk for hunk in diff.split("@@\n") if hunk]


def patched(stock: str, changes: list[str]) -> str:
    """A text with hunks applied; each place must be there once."""
    text = f"\n{stock}"
    for hunk in changes:
        lines = hunk.splitlines(keepends=True)
        assert {line[0] for line in lines} <= set(" +-")
        before = "\n" + "".join(line[1:] for line in lines if line[0] != "+")
        after = "\n" + "".join(line[1:] for line in lines if line[0] != "-")
        assert text.count(before) == 1, f"{text.count(before)} places for {before}"
        text = text.replace(before, after)
    return text[1:]
