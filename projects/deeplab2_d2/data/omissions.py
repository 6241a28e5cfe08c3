"""What a conversion leaves out: told at the end, one kind after the other, none in silence."""

from collections import defaultdict
from typing import Dict, List, Optional


class Omissions:
    """Collects what could not be used."""

    def __init__(self) -> None:
        self._details: Dict[str, List[str]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(len(details) for details in self._details.values())

    def add(self, kind: str, detail: str) -> None:
        """
        Args:
            kind: what was left out, such as "annotation of no image".
            detail: which one, and why.
        """
        self._details[kind].append(detail)

    def count(self, kind: str) -> int:
        """How many there are of a kind."""
        return len(self._details.get(kind, ()))

    def report(self, max_lines: int = 10) -> str:
        """
        The list as text.

        Args:
            max_lines: of a kind that are written out.

        Returns:
            "" where nothing was left out.
        """
        if not self._details:
            return ""
        lines = [f"Left out: {len(self)}"]
        for kind, details in self._details.items():
            lines.append(f"  {len(details)} x {kind}")
            lines += [f"    - {detail}" for detail in details[:max_lines]]
            if len(details) > max_lines:
                lines.append(f"    ... and {len(details) - max_lines} more (--all prints them)")
        return "\n".join(lines)


def leave_out(omitted: Optional[Omissions], kind: str, detail: str) -> None:
    """
    Args:
        omitted: to add to; None where nothing may be left out.
        kind, detail: see :meth:`Omissions.add`.

    Raises:
        ValueError: if nothing may be left out.
    """
    if omitted is None:
        raise ValueError(f"{kind}: {detail}")
    omitted.add(kind, detail)
