"""Where shards lie: in a folder, or at an address (HTTP, S3, ...) from which they are fetched into the cache folder.

A shard that was fetched is checked against its sha256, so that nothing else ever enters the cache; of all that a set has there
only so many gigabytes stay, those that were used last.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from condgen.data import cache
from condgen.data.shards.index import INDEX, Index, Shard, Table, parsed
from condgen.errors import CondgenError

TRIES, PAUSE = 3, 1.0
"""How often a connection is tried, and the seconds before the second time, which double."""
REMEDY = "copy it again, or leave out what is lost with data.source.corrupt=skip"


class Lost(CondgenError):
    """A shard, or an image in it, is missing or corrupt."""


class Store:
    """The files of one set.

    Args:
        path: the folder, or its address.
        cache_gb: how many gigabytes of shards from an address are kept on this machine.
    """

    def __init__(self, path: str | Path, cache_gb: float = 10.0):
        self.path = str(path).rstrip("/")
        self.remote = "://" in self.path
        self.limit = int(cache_gb * 1e9)
        self.folder = Path(self.path)
        if self.remote:
            self.folder = cache.folder() / "shards" / cache.name(self.path.rpartition("/")[2] or "set", self.path)

    def index(self) -> Index:
        """Read the index; raises CondgenError where there is none."""
        source = f"{self.path}/{INDEX}"
        try:
            text = self._remotely(lambda fs, root: fs.cat_file(f"{root}/{INDEX}")) if self.remote else Path(source).read_bytes()
        except FileNotFoundError:
            unfinished = not self.remote and (self.folder / "packing.json").is_file()
            hint = "its packing was not finished, go on with the same condgen pack" if unfinished else "condgen pack writes one"
            raise CondgenError(f"{self.path} holds no {INDEX}, so that it is no set of shards: {hint}.") from None
        except OSError as error:
            raise CondgenError(f"{source} cannot be read ({error.strerror or error}).") from None
        return parsed(text, source)

    def check(self, shard: Shard | Table) -> None:
        """Refuse a file in a folder that is missing or of another size than the index says; raises Lost."""
        file = self.folder / shard.file
        if not self.remote and (found := file.stat().st_size if file.is_file() else None) != shard.bytes:
            has = "is missing" if found is None else f"has {found:,} bytes and should have {shard.bytes:,}"
            raise Lost(f"{file} {has}: {REMEDY}.")

    def file(self, shard: Shard | Table) -> Path:
        """Return a local file with a shard, fetched now if need be, which others may remove as soon as it is not open.

        Raises:
            Lost: it is missing at the address, or has other bytes than the index says.
            CondgenError: it could not be fetched.
        """
        file = self.folder / shard.file
        if not self.remote:
            return file
        if not self.cached(shard):
            with cache.locked(file):
                if not self.cached(shard):
                    self._fetch(shard, file)
        os.utime(file)
        return file

    def cached(self, shard: Shard | Table) -> bool:
        """Whether a shard can be read without fetching it."""
        file = self.folder / shard.file
        return not self.remote or (file.is_file() and file.stat().st_size == shard.bytes)

    def ranges(self, shards: Sequence[Shard], starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Return bytes ``starts`` to ``ends`` of shards at an address, many requests at a time."""

        def requested(fs: Any, root: str) -> list[bytes]:
            paths = [f"{root}/{shard.file}" for shard in shards]
            found: list[bytes] = fs.cat_ranges(paths, list(starts), list(ends), on_error="raise")
            return found

        pieces = self._remotely(requested)
        # A server that knows no ranges sends the whole file.
        return [
            piece[start:end] if len(piece) > end - start else piece
            for piece, start, end in zip(pieces, starts, ends, strict=True)
        ]

    def _fetch(self, shard: Shard | Table, file: Path) -> None:
        """Fetch a file whole or not at all; the caller holds its lock."""
        self._make_room(shard.bytes)
        draft = file.with_suffix(".part")
        try:
            for last in (False, True):  # what was damaged on its way is right the second time
                self._remotely(lambda fs, root: fs.get_file(f"{root}/{shard.file}", str(draft)))
                if draft.stat().st_size == shard.bytes and sha256(draft) == shard.sha256:
                    draft.replace(file)
                    return
                if last:
                    raise Lost(f"{self.path}/{shard.file} is corrupt, its sha256 is not that of the index: {REMEDY}.")
        except FileNotFoundError:
            raise Lost(f"{self.path}/{shard.file} is missing: {REMEDY}.") from None
        except OSError as error:
            raise CondgenError(f"{file} cannot be written ({error.strerror or error}): give CONDGEN_CACHE more room.") from None
        finally:
            draft.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove the shards that were not used for longest, until ``size`` bytes more are within the limit."""
        known = []
        for file in self.folder.glob("*.tar"):
            try:
                status = file.stat()
            except FileNotFoundError:  # another process did
                continue
            known.append((status.st_mtime, status.st_size, file))
        taken = sum(length for _, length, _ in known)
        for _, length, file in sorted(known):
            if taken + size <= self.limit:
                return
            file.unlink(missing_ok=True)
            taken -= length
        if size > shutil.disk_usage(self.folder).free:
            raise CondgenError(f"{self.folder} has no room for {size / 1e9:.2f} GB: point CONDGEN_CACHE to a folder with more.")

    def _remotely(self, ask: Any) -> Any:
        """Return ``ask(file system, root)``; a connection that fails is tried again.

        Raises:
            CondgenError: it goes on failing, or nothing is known of such addresses.
            FileNotFoundError: there is no such file.
        """
        import fsspec

        try:
            fs, root = fsspec.core.url_to_fs(self.path)
        except (ImportError, ValueError) as error:
            raise CondgenError(
                f"{self.path} cannot be opened ({str(error).splitlines()[0].rstrip('.')}): http:// works as it is, s3:// with "
                "pip install 'condgen[shards]'."
            ) from None
        for attempt in range(1, TRIES + 1):
            try:
                return ask(fs, root)
            except FileNotFoundError:
                raise
            except Exception as error:  # each protocol has errors of its own
                if isinstance(error, OSError) and (error.filename or error.errno in (ENOSPC, EDQUOT)):  # of this machine
                    raise
                if attempt == TRIES:
                    said = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
                    raise CondgenError(
                        f"{self.path} cannot be reached ({said}): the same command goes on when it can."
                    ) from None
                time.sleep(PAUSE * 2 ** (attempt - 1))
        raise AssertionError("unreachable")


def sha256(file: Path) -> str:
    """Hash a file's content, 64 hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
