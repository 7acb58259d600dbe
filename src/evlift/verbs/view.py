"""`evlift view`."""

from __future__ import annotations

import argparse

from evlift.verbs.common import add_fit, open_console

TEXT = "Play a recording in the browser."
EXAMPLE = "evlift view recording.raw --run runs/a"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("recording", help="a file in any readable format")
    parser.add_argument(
        "--run",
        dest="trained",
        metavar="RUN",
        help="a run, or an exported network, whose answers are shown",
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="of 127.0.0.1; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only say where to look")
    parser.add_argument("--format", help="of the file, where it cannot be told from its content")
    add_fit(parser)


def run(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C, which is the regular end: exit code 0."""
    import webbrowser

    from evlift.viewer import open_viewer

    how = {name: getattr(options, name) for name in ("port", "format", "fit")}
    with open_viewer(options.recording, options.trained, **how) as viewer:
        console = open_console()
        console.print(f"{options.recording}: {viewer.url}  (Ctrl-C ends it)", soft_wrap=True)
        if not options.no_browser:
            webbrowser.open(viewer.url)
        try:
            viewer.serve_forever()
        except KeyboardInterrupt:
            console.print("ended")
