"""One build of linux-kdump, from the source to the installed package; what is armed stays armed until the very end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kdump_pkg import paths, reconcile, trial, ui
from kdump_pkg.apply import package_build, queue, source_keys, stage
from kdump_pkg.apply.build_log import TAIL, BuildError, Log
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import building
from kdump_pkg.facts.variant import read_record
from kdump_pkg.fs import HINTS, check_space
from kdump_pkg.model import Config, Facts, Wanted
from kdump_pkg.model.variant import Built, Failure, Progress, Record
from kdump_pkg.plan import variant, variant_build
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.untrusted import masked

HOME = paths.VARIANT_BUILD
SCRIPTS = ("PKGBUILD", "source.sh", "configure")
NEW, AGAIN = 4 << 30, 1 << 30
"""Bytes that a build takes: the whole tree with all that is made of it; what is made anew in one that is there."""
FILES = 1500
"""That are compiled, about, until a build has counted them."""
LOOKS_EVERY = 2
"""Seconds between two looks at whether it is still wanted."""
OUTCOMES = {"rehearsing": "trusted", "installing": "installed"}
"""What it comes to at each step, unless that fails; "built" at all others."""
WAITS = 60
"""Seconds between two looks at whether the machine is idle."""


class AnewError(KdumpError):
    """Something newer is wanted by now."""


@dataclass(frozen=True)
class Made:
    """A package that nobody has installed yet."""

    package: str
    release: str
    objects: int


class Build:
    """What runs now, as all can see it: its step, and how far that is."""

    def __init__(self, ctx: Context, config: Config) -> None:
        self.ctx = ctx
        self.config = config
        self.since = int(ctx.clock())
        self.step = "preparing"
        self._began = self.since
        self._looked = 0.0
        self._told, self._tenth = -1, 0

    # --- telling ------------------------------------------------------------------------------------------------------

    def tell(self, step: str, text: str = "", done: int = 0, of: int = 0) -> None:
        self.step = step
        queue.tell(self.ctx, Progress(step, text, self.since, done, of))

    @contextmanager
    def reporting(self, want: Wanted) -> Iterator[None]:
        """What fails in the block is remembered as the reason why there is no new one."""
        try:
            yield
        except AnewError:
            raise
        except (KdumpError, OSError) as error:
            told = _explained(error)
            step, tail = (told.step, told.tail) if isinstance(told, BuildError) else (self.step, ())
            failure = Failure(want, int(self.ctx.clock()), step, masked(told.message), masked(told.hint or ""), tail)
            with contextlib.suppress(KdumpError):  # the disk may be full: that is said all the same
                queue.update(self.ctx, lambda record: replace(record, failure=failure))
            what = OUTCOMES.get(self.step, "built")
            text = f"{paths.VARIANT} was not {what}: {told.message}; what was armed stays armed"
            raise KdumpError(text, hint=told.hint) from None

    # --- the steps ----------------------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Until the machine runs on mains and is idle, as the configuration has it."""
        said = None
        while True:
            power, load = building.read_power(self.ctx), building.read_load(self.ctx)
            why = variant_build.obstacle(self.config.variant, power, load, building.read_cpus(self.ctx))
            if why is None:
                return
            if why != said:
                ui.say(f"waiting: {why}")
            said = why
            self.tell("waiting", why)
            time.sleep(WAITS)

    def make(self, facts: Facts, want: Wanted) -> Made:
        """The package that was wanted. Raises KdumpError, and AnewError when another one is wanted by now."""
        self._began = int(self.ctx.clock())
        self._told, self._tenth = -1, 0
        self.tell("preparing")
        ui.say(f"building {paths.VARIANT} from the source of {want.base} {want.version}")
        source, files = self._plan(facts, want)
        self._check_machine(files["PKGBUILD"], source)
        kept = [entry.rpartition("/")[2] for entry in source.entries]
        package_build.prepare(self.ctx, HOME, files, dict(source.links), kept)
        self._check_source(source)
        self._gather_keys(source)
        self.tell("building")
        built = facts.variant.record.built
        of = built.objects if built and built.objects else FILES
        last = Log()

        def watch(log: Log) -> None:
            nonlocal last
            last = log
            self._watch(want, log, of)

        try:
            package = package_build.makepkg(self.ctx, HOME, watch)
        except BuildError as error:
            raise self._with_versions(error, source) from None
        self.tell("checking")
        package_build.drop_packages(self.ctx, HOME, paths.VARIANT, but=package)
        return Made(package, stage.check(self.ctx, package), max(last.objects, built.objects if built else 0))

    def _plan(self, facts: Facts, want: Wanted) -> tuple[variant_build.Source, dict[str, bytes]]:
        """The source, and the files of the recipe."""
        ctx, config = self.ctx, self.config
        local = building.read_local(ctx, config.variant)
        source = variant_build.resolve(config.variant, want.base, want.version, want.release, local)
        flavour = design_capture(config, facts).flavour
        parts = variant_build.parts(config, facts, building.read_recipe(ctx), os.uname().machine, flavour)
        jobs = variant_build.jobs(building.read_cpus(ctx), building.read_memory(ctx))
        files = {"settings": variant_build.settings(source, parts, jobs).encode()}
        for name in (*SCRIPTS, *(f"{part}.config" for part in parts.fragments)):
            data = ctx.read_bytes(f"{paths.VARIANT_RECIPE}/{name}")
            if data is None:
                raise KdumpError(f"{paths.VARIANT_RECIPE}/{name} can't be read", hint="reinstall kdump-pkg")
            files[name] = data
        return source, files

    def _check_machine(self, recipe: bytes, source: variant_build.Source) -> None:
        """That what can be known to be missing is there."""
        lacking = package_build.lacking(self.ctx, recipe)
        if lacking:
            raise KdumpError(
                f"the build needs packages that are not installed: {' '.join(lacking)}",
                hint=f"pacman -S --asdeps --needed {' '.join(lacking)}",
            )
        home = self.ctx.path(HOME)
        there = next(path for path in (home, *home.parents) if path.is_dir())
        check_space(there, AGAIN if (home / "src/build").is_dir() or source.tree else NEW)

    def _check_source(self, source: variant_build.Source) -> None:
        """That the one who builds can read what the user has named."""
        for path in [*(path for _, path in source.links), *([f"{source.tree}/Makefile"] if source.tree else [])]:
            try:
                self.ctx.runner(package_build.command(self.ctx, ["test", "-r", path]))
            except CommandError:
                hint = f"put it where everybody can read it: not below a home, chmod go+r {path}"
                raise KdumpError(
                    f"{path}: the user {paths.VARIANT_USER}, who builds, can't read it", hint=hint
                ) from None

    def _gather_keys(self, source: variant_build.Source) -> None:
        wish = self.config.variant
        if source.keys:
            own = self.ctx.read_bytes(wish.keys) if wish.keys != "auto" else None
            owners = {key: variant_build.KEY_OWNERS.get(key, "") for key in source.keys}
            source_keys.gather(self.ctx, HOME, owners, own)

    def _with_versions(self, error: BuildError, source: variant_build.Source) -> BuildError:
        """What doesn't compile may be too old for the compiler."""
        if not error.message.startswith("it can't be compiled"):
            return error
        try:
            compiler = masked(self.ctx.runner(["gcc", "-dumpfullversion"], root=self.ctx.root, timeout=10).text.strip())
        except CommandError:
            compiler = "of an unknown version"
        hint = f"gcc {compiler} may be too new for Linux {source.version}: see {HOME}/{package_build.LOG}"
        return BuildError(error.step, error.message, hint=hint, tail=error.tail)

    # --- meanwhile ----------------------------------------------------------------------------------------------------

    def _watch(self, want: Wanted, log: Log, of: int) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOKS_EVERY:
            self._looked = now
            self.still_wanted(want)
        if log.objects != self._told:
            self._told = log.objects
            self.tell("building", done=log.objects, of=max(of, log.objects))
        if log.objects and 10 * log.objects // of > self._tenth:
            self._tenth = 10 * log.objects // of
            ui.detail(variant_build.progress(log.objects, of))

    def still_wanted(self, want: Wanted) -> None:
        """Raises AnewError when something newer is wanted, KdumpError when the kernel is gone whose source this is."""
        asked = read_record(self.ctx).wanted
        if asked is not None and asked.key != want.key:
            raise AnewError(f"{asked.base} is {asked.version} by now")
        if self.ctx.is_file(f"{paths.MODULES}/{want.release}/vmlinuz"):
            return
        if os.path.lexists(self.ctx.path(package_build.LOCK_FILE, follow=False)):
            return  # an upgrade is at it, whose hook will say what comes
        system = variant.newest_of(reconcile.read_facts(self.ctx, self.config).kernels, want.base)
        if system is not None and system.release != want.release:
            raise AnewError(f"{system.pkgbase} is {system.version or system.release} by now")
        raise KdumpError(f"{want.base} {want.version} was removed while its variant was built")

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def trust(self, release: str, where: str) -> str:
        """Have the kernel on the stage rehearsed, and remember that it captured. Returns its build ID."""
        self.tell("rehearsing", release)
        found = trial.look(self.ctx, self.config, release)
        build_id = found.kernel.build_id or ""
        try:
            trial.check(found)
            ui.say(f"rehearsing {release}, which takes minutes")
            verdict = trial.crash(self.ctx, found)
        except trial.ImpossibleError as error:
            if self.config.variant.trust:
                ui.say(f"not rehearsed ({error.message}): trust = yes")
                return build_id
            hint = (
                f"{error.hint}; or trust = yes in [variant]" if error.hint else "trust = yes in [variant] does without"
            )
            raise KdumpError(f"{release} can't be rehearsed: {error.message}; {where}", hint=hint) from None
        if not verdict.captured:
            tail = [masked(line) for line in (*verdict.steps, verdict.console_line or "") if line]
            text = f"{release} did not capture in its rehearsal: {verdict.reason}; {where}"
            raise BuildError("rehearsing", text, tail=tuple(tail[-TAIL:]))
        seconds = verdict.seconds_panic_to_reboot if verdict.accelerator == "kvm" else None  # else it is no measure
        ui.detail(f"it captured with {verdict.crashkernel}{f', in {seconds:.0f} s' if seconds else ''}")
        queue.update(self.ctx, lambda record: replace(record, trusted={**record.trusted, build_id: "rehearsed"}))
        return build_id

    def install(self, want: Wanted, made: Made, build_id: str) -> None:
        """pacman's own hook makes it the capture kernel."""
        self.tell("installing", made.release)
        ui.say(f"installing {made.release}")

        def remember() -> None:
            now = int(self.ctx.clock())
            built = Built(want, made.release, build_id, now, now - self._began, made.objects)
            queue.update(self.ctx, lambda record: finished(record, built))

        package_build.install(self.ctx, made.package, self._say, remember)
        self.ctx.path(made.package).unlink(missing_ok=True)

    def _say(self, text: str) -> None:
        self.tell(self.step, text)
        ui.detail(text)


def finished(record: Record, built: Built) -> Record:
    """What is remembered once it is installed; what somebody has asked for meanwhile is still wanted."""
    asked = record.wanted if record.wanted and record.wanted.key != built.wanted.key else None
    trusted = {key: value for key, value in record.trusted.items() if key == built.build_id}
    return replace(record, built=built, failure=None, wanted=asked, trusted=trusted)


def _explained(error: KdumpError | OSError) -> KdumpError:
    if isinstance(error, KdumpError):
        return error
    name = f"{error.filename}: " if error.filename else ""
    return KdumpError(f"{name}{error.strerror or error}", hint=HINTS.get(error.errno or 0))
