"""`evlift view`: a recording in the browser, from a server that this machine alone can reach."""

from evlift.viewer.server import Viewer, open_viewer

__all__ = ["Viewer", "open_viewer"]
