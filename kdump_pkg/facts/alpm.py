"""Installed packages, from the local pacman database: through pyalpm, or by reading its files where pyalpm is broken.

pyalpm can be missing just when a hook needs it, in the transaction that upgrades Python or libalpm; the database's
layout is plain text and documented in libalpm's own tools, so the hook does without. Nothing else imports pyalpm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kdump_pkg import paths
from kdump_pkg.context import Context


class Packages(Protocol):
    def version(self, name: str) -> str | None:
        """Full version (epoch:pkgver-pkgrel) of an installed package, or None."""
        ...

    def owns(self, name: str, path: str) -> bool:
        """Whether the installed package NAME ships PATH (absolute)."""
        ...

    def owners(self, wanted: Callable[[str], bool]) -> dict[str, str]:
        """Of all files of all packages the ones that are WANTED (absolute paths), and the package that ships each.

        Looks at everything that is installed, which takes a second: for reports, not for hooks.
        """
        ...


def open_packages(ctx: Context) -> Packages:
    """The local database of this root. Never raises: without a database every package is unknown."""
    try:
        return _Alpm(ctx)
    except Exception:  # not only ImportError: a libalpm of another soname fails in its own ways
        return _Files(ctx)


class _Alpm:
    def __init__(self, ctx: Context) -> None:
        import pyalpm

        self._ctx = ctx
        handle: Any = pyalpm.Handle(str(ctx.root), str(ctx.path(paths.PACMAN_DB)))
        self._db: Any = handle.get_localdb()
        self._handle = handle

    def version(self, name: str) -> str | None:
        package = self._db.get_pkg(name)
        return str(package.version) if package is not None else None

    def owns(self, name: str, path: str) -> bool:
        package = self._db.get_pkg(name)
        return package is not None and any(entry[0] == path.lstrip("/") for entry in package.files)

    def owners(self, wanted: Callable[[str], bool]) -> dict[str, str]:
        try:
            return {
                f"/{file[0]}": str(package.name)
                for package in self._db.pkgcache
                for file in package.files
                if wanted(f"/{file[0]}")
            }
        except Exception:  # one damaged entry ends the whole walk
            return _Files(self._ctx).owners(wanted)


class _Files:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._dirs: dict[str, str] = {}
        for entry in ctx.names(f"{paths.PACMAN_DB}/local"):
            parts = entry.rsplit("-", 2)  # name-version-release; names may have dashes, the other two may not
            if len(parts) == 3:
                self._dirs[parts[0]] = entry

    def version(self, name: str) -> str | None:
        entry = self._dirs.get(name)
        return entry[len(name) + 1 :] if entry else None

    def owns(self, name: str, path: str) -> bool:
        entry = self._dirs.get(name)
        text = self._ctx.read_text(f"{paths.PACMAN_DB}/local/{entry}/files") if entry else None
        return text is not None and path.lstrip("/") in text.splitlines()

    def owners(self, wanted: Callable[[str], bool]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, entry in self._dirs.items():
            text = self._ctx.read_text(f"{paths.PACMAN_DB}/local/{entry}/files") or ""
            found |= {f"/{line}": name for line in text.splitlines() if wanted(f"/{line}")}
        return found
