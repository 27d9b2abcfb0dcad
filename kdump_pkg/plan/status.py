"""What `status` says: all checks in the order in which they depend on each other, and the verdict on them."""

from __future__ import annotations

from dataclasses import dataclass

from kdump_pkg.model import BuildImage, Config, Facts, Finding, Load, Plan
from kdump_pkg.model.health import Health
from kdump_pkg.plan import targets
from kdump_pkg.plan.checks import (
    Case,
    debuggers,
    history,
    image,
    kernel,
    load,
    loader,
    memory,
    panic,
    target,
    variant,
)
from kdump_pkg.plan.estimate import estimate
from kdump_pkg.plan.rebuild import load_obstacle

NOTHING = Health()
"""Where nobody has looked."""
REFUTING = ("reservation", "rehearsal", "crash test")
"""Parts that tell whether what is loaded would come to its end."""


@dataclass(frozen=True)
class Status:
    armed: bool | None
    """None where it can't be known: another root, a chroot, and to anybody but root sometimes."""
    verdict: str
    findings: tuple[Finding, ...]

    @property
    def todo(self) -> bool:
        return any(f.state in ("todo", "bad") for f in self.findings)


def plan_status(config: Config, facts: Facts, plan: Plan, health: Health = NOTHING) -> Status:
    """The findings in the order in which they depend on each other, and the verdict."""
    need = estimate(facts, plan.capture, health.rehearsed) if plan.capture else None
    case = Case(config, facts, plan, health, need)
    before = [*_privileges(case), *loader.check(case), *kernel.check(case), *memory.check(case), *kernel.loading(case)]
    after = [*image.kernels(case), *variant.check(case), *target.check(case), *image.check(case), *load.check(case)]
    after += [*panic.check(case), *debuggers.check(case), *history.check(case)]
    findings = _with_problems(case, before, after)
    unknown = case.hidden or not case.live
    armed = None if unknown else bool(facts.boot.crash_loaded and _current(plan))
    doubt = next((f for f in findings if f.state == "bad" and f.part in REFUTING), None) if armed else None
    if doubt:
        return Status(False, f"loaded, but a crash now would hardly be saved: {doubt.part}: {_next(doubt)}", findings)
    return Status(armed, _verdict(case, armed, findings), findings)


def bad_config_status(problems: tuple[str, ...]) -> Status:
    findings = tuple(Finding("configuration", "bad", p, "correct it") for p in problems)
    return Status(None, "the configuration can't be used; what is armed stays armed", findings)


def _privileges(case: Case) -> list[Finding]:
    if case.health.privileged:
        return []
    text = "dumps, the image and most boot loaders' files can't be seen"
    return [Finding("privileges", "unknown", text, "run it as root")]


def _with_problems(case: Case, before: list[Finding], after: list[Finding]) -> tuple[Finding, ...]:
    """What the plan says can't be done stands before what it keeps from being made; nothing is said twice."""
    explained = " ".join(f"{f.text}: {f.remedy}" for f in (*before, *after))
    known = load_obstacle(case.facts) if case.live else None  # the reservation's, or the loading's
    general = [Finding("problem", "bad", w) for w in case.plan.warnings if w not in explained and w != known]
    said = " ".join(f.text for f in general)
    return (*before, *general, *(f for f in after if f.state != "bad" or f.text not in said))


def _current(plan: Plan) -> bool:
    return plan.capture is not None and not any(isinstance(a, Load | BuildImage) for a in plan.actions)


def _verdict(case: Case, armed: bool | None, findings: tuple[Finding, ...]) -> str:
    if armed and case.capture:
        first = case.capture.targets[0]
        took = history.seconds(case)
        about = f" in about {max(took, 1):.0f} s" if took is not None else ""
        return f"armed: a crash now would be saved to {first.mounted or targets.text(first)}{about}"
    todo = next((f for f in findings if f.state in ("bad", "todo")), None)
    if case.hidden:
        return "a capture kernel is loaded; whether it is the right one, only root can see"
    if armed is None:
        ready = "everything is ready to be loaded" if todo is None else "not ready"
        following = f", next: {todo.remedy or todo.text}" if todo else ""
        return f"{ready} ({case.facts.boot.confined}, where nothing is ever loaded){following}"
    other = "a capture kernel is loaded, but not the one asked for"
    loaded = other if case.facts.boot.crash_loaded else "not armed"
    return f"{loaded}: {_next(todo)}" if todo else loaded


def _next(finding: Finding) -> str:
    text = finding.text.splitlines()[0]
    return f"{text}, next: {finding.remedy}" if finding.remedy else text
