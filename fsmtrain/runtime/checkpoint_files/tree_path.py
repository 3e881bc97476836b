"""`TreePath`: the path of a value in a state tree, for error messages and for the names of tensors."""

from __future__ import annotations

from typing import Any

from attrs import frozen


@frozen(eq=False)
class TreePath:
    """The steps from the root of a tree to a value: keys and positions.

    >>> path = TreePath().key("optimizers").key(0).key("state").key(3).key("exp_avg")
    >>> str(path), path.name
    ("optimizers[0]['state'][3]['exp_avg']", 'optimizers.0.state.3.exp_avg')
    >>> str(TreePath())
    'the value'
    """

    parent: TreePath | None = None
    step: Any = None

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
        joined = ".".join(step if isinstance(step, str) else _step_text(step) for step in self.steps)
        return joined.encode(errors="backslashreplace").decode()

    def __str__(self) -> str:
        steps = self.steps
        if not steps:
            return "the value"
        first = steps.pop(0) if isinstance(steps[0], str) and steps[0].isidentifier() else ""
        return first + "".join(f"[{_step_text(step)}]" for step in steps)


def _step_text(step: Any) -> str:
    text = ascii(step)
    return text if len(text) <= 100 else f"{text[:97]}..."
