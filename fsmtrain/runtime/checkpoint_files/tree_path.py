"""`TreePath`: the path of a value in a state tree, for error messages and for the names of tensors; values in messages."""

from __future__ import annotations

from typing import Any

MAX_SHOWN = 100  # characters of a name or value in a message


class TreePath:
    """The steps from the root of a tree to a value: keys and positions.

    >>> path = TreePath().key("optimizers").key(0).key("state").key(3).key("exp_avg")
    >>> str(path), path.name
    ("optimizers[0]['state'][3]['exp_avg']", 'optimizers.0.state.3.exp_avg')
    >>> str(TreePath())
    'the value'
    """

    # Not a class of attrs: a save makes one for each value, and those of frozen classes take three times as long.
    __slots__ = ("parent", "step")

    def __init__(self, parent: TreePath | None = None, step: Any = None) -> None:
        self.parent = parent
        self.step = step

    def key(self, key: Any) -> TreePath:
        """Return the path of a mapping's value, or of a sequence's item by its position, from 0."""
        return TreePath(self, key)

    @property
    def steps(self) -> list[Any]:
        """The keys and positions, from the root."""
        steps, path = [], self
        while path.parent is not None:
            steps.append(path.step)
            path = path.parent
        return steps[::-1]

    @property
    def name(self) -> str:
        """The steps joined by dots, as in the keys of a ``state_dict``. It can always be encoded as UTF-8."""
        joined = ".".join([step if isinstance(step, str) else short_repr(step) for step in self.steps])
        return joined if joined.isascii() else joined.encode(errors="backslashreplace").decode()

    def __str__(self) -> str:
        steps = self.steps
        if not steps:
            return "the value"
        first = steps[0]
        is_plain = isinstance(first, str) and first.isidentifier() and len(first) <= MAX_SHOWN
        return (steps.pop(0) if is_plain else "") + "".join(f"[{short_repr(step)}]" for step in steps)


def short_repr(value: Any) -> str:
    """Return the ``repr`` of a value in ASCII, shortened: files may have names of any length."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
