"""Pictures in a notebook: figures that show themselves, and images inside HTML."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO

from matplotlib.figure import Figure

DPI = 100  # pixels per inch of a figure in a notebook


class Picture(Figure):
    """A figure that is not known to pyplot and that a notebook shows all the same."""

    def _repr_png_(self) -> bytes:  # called by IPython
        return png(self)


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def image_tag(data: bytes, kind: str, words: str) -> str:
    """An `<img>` that holds its data.

    Args:
        data: the content of an image file.
        kind: "png" or "gif".
        words: what it shows, for readers who do not see it.
    """
    content = base64.b64encode(data).decode()
    return f'<img src="data:image/{kind};base64,{content}" alt="{escape(words)}" style="max-width: 100%">'
