"""Tables and lines on a terminal: no secret and no control character of a stranger's reaches it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lens_eval.base.redaction import visible

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str, nl: bool = True, err: bool = False) -> None:
    """Print text for a reader: without secrets and without control characters, above a bar that is shown."""
    stream = sys.stderr if err else sys.stdout
    if "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.write(visible(text), file=stream, end="\n" if nl else "")
    else:
        print(visible(text), file=stream, end="\n" if nl else "")
    stream.flush()


def make_console(**options: Any) -> Console:
    """A console of rich that shows control characters as escapes, whatever is printed on it."""
    from rich.console import Console, RenderHook
    from rich.segment import Segment

    class Shown:
        """Something printed, with the text of its segments made visible."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __rich_console__(self, console: Console, within: Any) -> Any:
            for part in console.render(self.inner, within):
                yield part if part.control else Segment(visible(part.text), part.style)

    class Hook(RenderHook):
        def process_renderables(self, renderables: list[Any]) -> list[Any]:
            return [Shown(each) for each in renderables]

    console = Console(highlight=False, **options)
    console.push_render_hook(Hook())
    return console
