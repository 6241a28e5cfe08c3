"""Named tuples by their own docstrings: without what Python says of every field of every one."""

import collections
from typing import Any, Dict, List

# Of the descriptor of a field, which has no public name.
_FIELD = type(collections.namedtuple("_One", "field").field)
_OF_PYTHON = "Create new instance of "


def skip_field(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> Any:
    """Fields stand in the docstring of the class, with what they are."""
    return True if isinstance(obj, _FIELD) else None


def drop_constructor(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: List[str]
) -> None:
    """The docstring of ``__new__``, which names the fields once more."""
    lines[:] = [line for line in lines if not line.startswith(_OF_PYTHON)]


def setup(app: Any) -> Dict[str, Any]:
    app.connect("autodoc-skip-member", skip_field)
    app.connect("autodoc-process-docstring", drop_constructor)
    return {"version": "1", "parallel_read_safe": True}
