"""The server's page: plain HTML, CSS and JavaScript, read once at the start."""

from importlib.resources import files as packaged

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


def files() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page by name, each with its content and its type."""
    found = (file for file in packaged(__name__).iterdir() if file.is_file())
    return {
        file.name: (file.read_bytes(), kind)
        for file in found
        if (kind := next((kind for ending, kind in TYPES.items() if file.name.endswith(ending)), None))
    }
