"""One self-contained HTML page: sections, tables and pictures, written once, without any outside file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from evlift.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass
class Page:
    """A page that grows section by section.

    Example:
        >>> page = Page("Digits", "what was done")
        >>> page.table(("row", "accuracy"), [("TMKT", "0.97")])
        >>> page.write("report.html")  # doctest: +SKIP

    Args:
        title: its heading.
        lead: what stands below it.
        script: whether it carries the script of sliders and switches.
    """

    title: str
    lead: str
    script: bool = False
    parts: list[str] = field(default_factory=list)
    sections: list[tuple[str, str]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A section's heading, which the list of contents leads to."""
        name = f"section-{len(self.sections) + 1}"
        self.sections.append((name, text))
        self.parts.append(f"<h2 id='{name}'>{html.escape(text)}</h2>")

    def subheading(self, text: str) -> None:
        """A heading within a section."""
        self.parts.append(f"<h3>{html.escape(text)}</h3>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of strings; the first cell of a row heads it."""
        self.parts.append(table(header, rows))

    def html(self, markup: str) -> None:
        """Markup as it is; its maker has escaped what users wrote."""
        self.parts.append(markup)

    def figure(self, figure: Figure, caption: str) -> None:
        """A picture with its caption, which is also its text for those who cannot see it."""
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=110, bbox_inches="tight", facecolor="white")
        encoded = base64.b64encode(data.getvalue()).decode()
        said = html.escape(caption)
        self.parts.append(
            f"<figure><img alt='{said}' src='data:image/png;base64,{encoded}'><figcaption>{said}</figcaption></figure>"
        )

    def render(self) -> str:
        """The whole page."""
        title, body = html.escape(self.title), "\n".join(self.parts)
        links = "".join(f"<li><a href='#{name}'>{html.escape(text)}</a></li>" for name, text in self.sections)
        contents = f"<nav aria-label='Contents'><ul>{links}</ul></nav>" if len(self.sections) > 2 else ""
        script = f"<script>{_asset('page.js')}</script>" if self.script else ""
        return (
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            "<meta name='viewport' content='width=device-width, initial-scale=1'><link rel='icon' href='data:,'>"
            f"<title>{title}</title><style>{_asset('page.css')}</style></head><body>"
            f"<header><h1>{title}</h1><p class='lead'>{html.escape(self.lead)}</p>{contents}</header>"
            f"<main>\n{body}\n</main>{script}</body></html>\n"
        )

    def write(self, path: Path | str) -> Path:
        """Write the page atomically."""
        write_text(path, self.render())
        return Path(path)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    """A table of strings that scrolls by itself where it is too wide; rows whose first cell starts with ≠ stand out."""
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in header)
    body = ""
    for row in rows:
        first, *cells = (html.escape(cell) for cell in row)
        marked = " class='differs'" if row[0].startswith("≠") else ""
        body += (
            f"<tr{marked}><th scope='row'>{first}</th>"
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    return scrolled(
        f"<table class='{kind}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        header[0] or "table",
    )


def scrolled(content: str, label: str) -> str:
    """Content that may be wider than the page, in a box that scrolls and that the keyboard reaches."""
    return f"<div class='scroll' tabindex='0' role='group' aria-label='{html.escape(label)}'>{content}</div>"


def _asset(name: str) -> str:
    return resources.files("evlift.report").joinpath(name).read_text("utf-8")
