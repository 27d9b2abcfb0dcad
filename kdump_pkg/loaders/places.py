"""Whether the directories that boot loaders read can be written, and what to do where they can't."""

from __future__ import annotations

from collections.abc import Iterable

from kdump_pkg.model.bootloader import Place, Surroundings


def mounted(around: Surroundings) -> tuple[str, ...]:
    """Where files of boot loaders may be, each once, to be followed by a name that starts with a slash.

    Below a mount point that nothing is mounted on, files are no boot loader's.
    """
    return tuple(dict.fromkeys(place.path.rstrip("/") for place in around.places if place.mounted))


def problem(around: Surroundings, paths: Iterable[str]) -> str | None:
    """Why one of these files can't be changed, or isn't the one that it seems to be."""
    for place in filter(None, (_holding(around, path) for path in paths)):
        if not (place.mounted and place.readable):
            return _unseen(place)
        if place.readonly:
            return f"{place.path} is mounted read-only; mount -o remount,rw {place.path}"
    return None


def unmounted(around: Surroundings) -> str | None:
    """For a boot loader whose files are nowhere to be seen."""
    return next((_unseen(place) for place in around.places if not (place.mounted and place.readable)), None)


def _unseen(place: Place) -> str:
    if not place.mounted:
        return f"{place.path} is not mounted; mount {place.path}"
    return f"only root may look into {place.path}; run it with sudo"


def _holding(around: Surroundings, path: str) -> Place | None:
    holders = [place for place in around.places if path.startswith(f"{place.path.rstrip('/')}/")]
    return max(holders, key=lambda place: len(place.path), default=None)
