"""The section "Decisions that differ" of docs/differences.md, made from the accepted rows.

In: `accepted.py`. Out: Markdown between the markers. `python -m tests.oracle.differences_page` writes it.
"""

from __future__ import annotations

from pathlib import Path

from tests.oracle.accepted import ACCEPTED, LAWS, Law, Row

__all__ = ["PAGE", "with_decisions"]

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"
_BEGIN, _END = "<!-- decisions -->", "<!-- /decisions -->"


def with_decisions(page: str) -> str:
    """The page with the section made anew. ValueError when it has no markers."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page lacks {_BEGIN} and {_END}")
    return f"{before}{begin}\n{_section()}\n{end}{after}"


def _section() -> str:
    lines = ["| what | how | why |", "|---|---|---|"]
    rows: list[Row | Law] = [*ACCEPTED, *LAWS]
    lines += [f"| {row.what} | {_how(row)} | {row.reason} |" for row in rows]
    return "\n".join(lines)


def _how(row: Row | Law) -> str:
    if isinstance(row, Law):
        return row.how
    return "; ".join(sorted(str(kind) for kind in row.kinds))


if __name__ == "__main__":
    PAGE.write_text(with_decisions(PAGE.read_text()))
