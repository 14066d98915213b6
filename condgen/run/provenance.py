"""Which code a run was made with: commit and diff of condgen's checkout, versions of all packages."""

import functools
import hashlib
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


@functools.cache  # the code that runs is the one that was imported
def git_state() -> tuple[dict[str, Any] | None, str]:
    """Return commit, branch and untracked files of condgen's checkout with its diff; (None, "") if it is none.

    ``diff`` is a digest of the diff, None where the checkout is clean.
    """
    package = Path(__file__).parent
    if git(package, "ls-files", "--error-unmatch", Path(__file__).name) is None:  # installed, perhaps below another checkout
        return None, ""
    commit, branch = git(package, "rev-parse", "HEAD"), git(package, "rev-parse", "--abbrev-ref", "HEAD")
    if commit is None:  # no commit yet
        return None, ""
    root = Path((git(package, "rev-parse", "--show-toplevel") or "").strip())
    diff = git(root, "diff", "--no-ext-diff", "HEAD") or ""
    untracked = (git(root, "ls-files", "--others", "--exclude-standard", "condgen", "conf", "hydra_plugins") or "").split("\n")
    state = {
        "commit": commit.strip(),
        "branch": (branch or "").strip(),
        "diff": hashlib.sha256(diff.encode()).hexdigest()[:8] if diff else None,
        "untracked": [name for name in untracked if name],
    }
    return state, diff


def git(folder: Path, *arguments: str) -> str | None:
    """Return what git says; None where it is not installed or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@functools.cache
def packages() -> dict[str, str]:
    """Return the version of every installed package, by name."""
    found = {str(one.metadata["Name"]): str(one.version) for one in distributions() if one.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
