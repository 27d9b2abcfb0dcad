"""Debian's archive, as the host's own apt knows it: the same mirror, the same proxies, signatures always checked.

No host name is written anywhere: the mirror is read from apt's configuration. A snapshot of sid may be past the date
that its release file allows, which says nothing about its signature; only that date is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .common import LabError, locked, need, once, run

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
STALE_RELEASE_FILE = 'Acquire::Check-Valid-Until "false"'
FORWARDED = re.compile(r'^(Acquire::(?:https?::.*|Check-Date|Retries.*|ForceIPv[46])) "(.+)";$', re.MULTILINE)


def mirror() -> str:
    """Where this host gets Debian from: the first archive that its apt knows and that calls itself Debian."""
    need("apt-get", "apt-config")
    known = run(["apt-get", "indextargets", "--format", "$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(REPO_URI)"]).stdout
    for line in known.splitlines():
        created_by, origin, label, uri = line.split("|", 3)
        if (created_by, origin, label) == ("Packages", "Debian", "Debian"):
            return uri
    raise LabError("this machine's apt knows no Debian archive: run apt-get update, or tests/lab/provision")


def options() -> list[str]:
    """The host's proxies and certificates, as lines of an apt configuration file."""
    host = run(["apt-config", "dump"]).stdout
    return [STALE_RELEASE_FILE, *(f'{key} "{value}"' for key, value in FORWARDED.findall(host))]


def source_line(suite: str) -> str:
    """One suite, main only, accepted with Debian's own keys only."""
    return f"deb [signed-by={KEYRING}] {mirror()} {suite} main"


def bootstrap(suite: str, packages: Sequence[str], dest: Path) -> None:
    """A root directory of these packages, with apt in it still ready for more."""
    need("mmdebstrap")
    apt = [f"--aptopt={line}" for line in [*options(), 'APT::Install-Recommends "false"']]
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "info", "locale", "i18n")]
    how = ["--variant=apt", "--mode=root", "--skip=cleanup/apt", f"--include={','.join(packages)}", *apt, *left_out]
    run(["mmdebstrap", *how, suite, str(dest), source_line(suite)], timeout=1800)


def download(suite: str, packages: Sequence[str], dest: Path, *, also: str = "") -> list[Path]:
    """The .deb files, in `dest`, of these packages and of what they depend on as far as names match `also`."""
    config = _apt_for(suite)
    with locked(f"apt-{suite}"):
        run(["apt-get", "update"], env=config)
        names = {*packages, *(_dependencies(packages, also, config) if also else ())}
        run(["apt-get", "download", *sorted(names)], env=config, cwd=dest)
    return sorted(dest.glob("*.deb"))


def _dependencies(packages: Sequence[str], matching: str, config: dict[str, str]) -> list[str]:
    """Everything below `packages` whose name matches, by apt's own resolving."""
    flags = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    tree = run(["apt-cache", "depends", "--recurse", *flags, *packages], env=config).stdout
    return [line for line in tree.splitlines() if re.fullmatch(matching, line)]


def _apt_for(suite: str) -> dict[str, str]:
    """An apt of our own: own sources, lists and state, nothing of the host's touched."""

    def write(state: Path) -> None:
        for part in ("lists/partial", "cache/archives/partial", "etc"):
            (state / part).mkdir(parents=True)
        (state / "status").touch()

    state = once(f"apt/{suite}", write)
    (state / "sources.list").write_text(source_line(suite) + "\n")
    places = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": state / "etc",
        "Dir::Etc::Parts": state / "etc",
        "Dir::Etc::Preferences": state / "etc/none",
        "Dir::Etc::PreferencesParts": state / "etc",
    }
    lines = [*options(), 'APT::Sandbox::User "root"', *(f'{key} "{value}"' for key, value in places.items())]
    (state / "apt.conf").write_text("".join(f"{line};\n" for line in lines))
    return {"APT_CONFIG": str(state / "apt.conf")}
