"""What a run measures on the node, as a table; and docs/operations.md with that table in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"
BEGIN = "<!-- make test-kubernetes ARGS=--write-results writes this -->"
END = "<!-- end of what it writes -->"


@dataclass(slots=True)
class Measured:
    """Rows of the table, in the order in which they were measured."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def ready(self, way: str, seconds: float) -> None:
        self.rows.append((f"{way}: `kubectl apply` to ready", f"{seconds:.1f} s"))

    def add(self, what: str, measured: str) -> None:
        self.rows.append((what, measured))

    def table(self) -> str:
        lines = ["| what | measured |", "|---|---|"]
        return "\n".join([*lines, *(f"| {what} | {measured} |" for what, measured in self.rows)])

    def write(self) -> None:
        """Put the table into the document. Raises `ValueError` without the marks."""
        before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{BEGIN} and {END} are missing in {DOCUMENT}")
        DOCUMENT.write_text(f"{before}{BEGIN}\n\n{self.table()}\n\n{END}{after}")
