"""What tests expect of error messages: what they name, not how they say it."""

import re


def naming(*words: object, **options: object) -> str:
    """A pattern, for ``match=``, of messages that name all of this, in whatever order.

    Each word stands by itself: ``1`` is not named by ``12``, ``-1``, ``1.5`` or ``res1``.

    Args:
        words: keys, values, files and remedies, as they are printed.
        options: keys and their values, these as `repr` shows them.
    """
    return "(?s)" + "".join(map(_named, (*words, *options, *map(repr, options.values()))))


def names(text: str, *words: object, **options: object) -> bool:
    """Whether a text names all of this; see `naming`."""
    return re.search(naming(*words, **options), text) is not None


def _named(word: object) -> str:
    text = str(word)
    assert text, "a message always names nothing"
    number = text.lstrip("-")[:1].isdigit()
    before = r"(?<![\w.-])" if number else r"(?<!\w)" if text[0].isalnum() else ""
    after = r"(?!\w|\.\d)" if number else r"(?!\w)" if text[-1].isalnum() else ""
    return f"(?=.*{before}{re.escape(text)}{after})"
