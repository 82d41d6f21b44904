"""Drawings of matplotlib's inside pages that ask nobody for anything."""

import io

from markupsafe import Markup
from matplotlib.figure import Figure


def plain(name: str) -> str:
    """A name as it is: between two dollar signs matplotlib would see a formula."""
    return name.replace("$", r"\$")


def svg(figure: Figure) -> Markup:
    """A drawing as it stands in a page; what precedes the element belongs to files."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 (drawn here; names are escaped by matplotlib)
