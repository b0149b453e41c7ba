"""Options that several constructors share, written once."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

Init = Callable[..., None]


def takes(options: type, **defaults: Any) -> Callable[[Init], Init]:
    """Decorator: a constructor takes the fields of a dataclass as keyword arguments of its own.

    The decorated function gets them as one argument, ``options``. `inspect.signature`, and with it
    everything that follows from a constructor's signature, shows the fields.

    Args:
        options: the dataclass, whose ``__post_init__`` checks the values.
        **defaults: of this constructor, where they differ from the dataclass's.

    Example:
        >>> import inspect
        >>> from dataclasses import dataclass
        >>> from dynbackbones.backbones.signature import takes
        >>> @dataclass(frozen=True)
        ... class Speed:
        ...     limit: int = 50
        >>> class Car:
        ...     @takes(Speed, limit=130)
        ...     def __init__(self, name: str, *, options: Speed) -> None:
        ...         self.limit = options.limit
        >>> Car("fast").limit, Car("slow", limit=30).limit
        (130, 30)
        >>> inspect.signature(Car)
        <Signature (name: str, *, limit: int = 130) -> None>
    """
    unknown = defaults.keys() - {field.name for field in fields(options)}
    if unknown:
        raise ValueError(f"{options.__name__} has no {', '.join(sorted(unknown))}")

    def decorate(init: Init) -> Init:
        own = inspect.signature(init)
        shown = {name: p for name, p in own.parameters.items() if name != "options"}
        taken = {
            name: p.replace(kind=p.KEYWORD_ONLY, default=defaults.get(name, p.default))
            for name, p in inspect.signature(options).parameters.items()
        }

        @functools.wraps(init)
        def wrapper(self: Any, *args: Any, **given: Any) -> None:
            unknown = unknown_option(given, wrapper.__signature__)
            if unknown is not None:
                raise TypeError(
                    f"{type(self).__name__}.__init__() got an unexpected keyword argument "
                    f"{unknown[0]!r}{unknown[1]}"
                )
            chosen = {name: given.pop(name) for name in taken.keys() & given.keys()}
            init(self, *args, options=options(**{**defaults, **chosen}), **given)

        wrapper.__signature__ = own.replace(parameters=[*shown.values(), *taken.values()])
        return wrapper

    return decorate


def unknown_option(
    given: Iterable[str], signature: inspect.Signature
) -> tuple[str, str] | None:
    """The first name that a signature does not know, and the end of a sentence about it.

    That names the one that was probably meant; it is empty where none looks alike.
    """
    known = signature.parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return None
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
            return name, f"; did you mean {near[0]!r}?" if near else ""
    return None
