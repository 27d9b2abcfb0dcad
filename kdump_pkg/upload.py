"""The verb `upload`: new dumps and reports go to where `[upload]` says, by rclone, from the healthy system.

It has a lock of its own, for it may take hours, and no hook and no unit is to wait for it. What has arrived is written
down piece by piece, after its hash was read there; so it can be killed at any instant, and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kdump_pkg import catalogue, fs, paths, ui
from kdump_pkg import config as configuration
from kdump_pkg.apply import upload as sending
from kdump_pkg.context import Context
from kdump_pkg.dumps import conclude
from kdump_pkg.errors import BusyError, KdumpError
from kdump_pkg.facts import upload as facts
from kdump_pkg.model import Config
from kdump_pkg.model.upload import Arrived, Batch, Failure, Record, Sent, Store, UploadPlan
from kdump_pkg.plan import upload as planning
from kdump_pkg.plan.listing import size

REMEMBERED = 1000
"""Dumps that aren't here any more, of which it is still known that they have arrived: their target may come back."""


def upload(ctx: Context, *, dry_run: bool, as_json: bool) -> int:
    """The verb `upload`. Returns the exit code."""
    config = configuration.load(ctx)
    if not config.upload.remote:
        raise KdumpError("[upload] names no remote, so nothing is sent", hint="see kdump-pkg.conf(5)")
    if facts.in_capture(ctx):
        raise KdumpError("this is a capture kernel: nothing is sent from here", hint="run it after the reboot")
    if dry_run:
        plan = read_plan(ctx, config, facts.read_record(ctx))
        _show(config, plan, as_json=as_json)
        return 0
    store = facts.read_store(ctx, config.upload)
    try:
        with fs.lock(ctx.path(paths.UPLOAD_LOCK)):
            run = _Run(ctx, config, store, facts.read_record(ctx), (lambda text: None) if as_json else ui.say)
            run.all()
    except BusyError:
        raise BusyError("another upload is at work", hint="wait until it is done") from None
    return _conclude(config, run, as_json=as_json)


def read_plan(ctx: Context, config: Config, record: Record) -> UploadPlan:
    """What has yet to be sent."""
    candidates = facts.read_candidates(ctx, catalogue.read(ctx, config))
    return planning.plan_upload(config.upload, facts.read_host(ctx, config.upload), candidates, record)


@dataclass
class _Run:
    ctx: Context
    config: Config
    store: Store
    record: Record
    say: Callable[[str], None]
    plan: UploadPlan = field(default_factory=UploadPlan)
    sent: list[str] = field(default_factory=list)
    """Dumps of which all has arrived."""
    failures: list[KdumpError] = field(default_factory=list)
    there: dict[str, dict[str, int]] = field(default_factory=dict)

    def all(self) -> None:
        """Batch by batch. What is wrong with one dump doesn't stop the others, what is wrong with the store does."""
        self.plan = read_plan(self.ctx, self.config, self.record)
        bad: set[str] = set()
        try:
            if self.plan.batches:
                self.record = sending.lend_config(self.ctx, self.store, self.record)
            for batch in self.plan.batches:
                if batch.id in bad:
                    continue
                try:
                    self._send(batch)
                except sending.LocalError as error:
                    bad.add(batch.id)
                    self.failures.append(error)
        except KdumpError as error:
            self.failures.append(error)
        self._write_end()

    def _send(self, batch: Batch) -> None:
        sent = self.record.dumps.get(batch.id)
        if sent is None or (sent.remote, sent.to) != (self.store.remote, batch.to):
            sent = Sent(self.store.remote, batch.to, batch.directory)
        if batch.to not in self.there:
            self.there[batch.to] = sending.look(self.ctx, self.store, batch.to)
        there = self.there[batch.to]
        if batch.names:
            self._send_list(batch, sent, there)
            return
        self.say(f"sending {batch.id}: {', '.join(p.name for p in batch.pieces)} ({size(batch.size)})")
        self._note(batch, sent, sending.send(self.ctx, self.store, batch, there))

    def _send_list(self, batch: Batch, sent: Sent, there: dict[str, int]) -> None:
        data = planning.sums(sent, batch.names)
        if not data:
            return  # something of it has failed
        arrived = sending.send_list(self.ctx, self.store, batch.to, planning.SUMS, data, there)
        whole = "dumps" if sent.whole == "dumps" else self.config.upload.what
        self._note(batch, replace(sent, whole=whole), {planning.SUMS: arrived})
        self.sent.append(batch.id)
        self.say(f"all of {batch.id} has arrived in {self.store.remote.rstrip('/')}/{batch.to}")

    def _note(self, batch: Batch, sent: Sent, arrived: dict[str, Arrived]) -> None:
        """Before the next piece: what is written down here is never sent again."""
        now = replace(sent, objects={**sent.objects, **arrived})
        self.record = replace(self.record, dumps={**self.record.dumps, batch.id: now})
        sending.write_record(self.ctx, self.record)

    def _write_end(self) -> None:
        failure = None
        if self.failures:
            last = self.failures[-1]
            failure = Failure(int(self.ctx.clock()), last.message, last.hint or "")
        kept = dict(sorted(self.record.dumps.items())[-REMEMBERED:])
        if (failure, kept) != (self.record.failure, self.record.dumps):
            sending.write_record(self.ctx, Record(kept, failure, self.record.config))


def _conclude(config: Config, run: _Run, *, as_json: bool) -> int:
    if as_json:
        failures = [failure.message for failure in run.failures]
        ui.out_json(
            {"remote": config.upload.remote, "sent": run.sent, "waiting": _waiting(run.plan), "failures": failures}
        )
    else:
        for name, why in run.plan.waiting:
            ui.detail(f"{name} waits: {why}")
        if not run.plan.batches:
            ui.out("nothing to send")
    return conclude(tuple(run.failures))


def _show(config: Config, plan: UploadPlan, *, as_json: bool) -> None:
    remote = config.upload.remote
    if as_json:
        objects = [
            {"dump": b.id, "object": f"{b.to}/{p.name}", "bytes": p.size} for b in plan.batches for p in b.pieces
        ]
        ui.out_json({"remote": remote, "pending": plan.pending, "objects": objects, "waiting": _waiting(plan)})
        return
    for batch in plan.batches:
        if batch.pieces:
            names = ", ".join(piece.name for piece in batch.pieces)
            ui.out(f"sending {names} of {batch.id} ({size(batch.size)}) to {remote.rstrip('/')}/{batch.to}")
    for name, why in plan.waiting:
        ui.out(f"{name} waits: {why}")
    if not plan.batches and not plan.waiting:
        ui.out("nothing to send")


def _waiting(plan: UploadPlan) -> list[dict[str, str]]:
    return [{"dump": name, "reason": why} for name, why in plan.waiting]
