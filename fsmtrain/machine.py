"""`build` and `Machine`: a run as an object, with everything that can be asked of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from fsmtrain import auto_resume
from fsmtrain.core.checking.check import check_loop, quick_findings
from fsmtrain.core.checking.findings import Finding, Report, Severity
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.planning.plan import Plan
from fsmtrain.core.planning.planner import make_plan
from fsmtrain.core.trace import where as where_it_stands
from fsmtrain.errors import CheckpointError, GuardError, UsageError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from fsmtrain.runtime.build import Loaders
from fsmtrain.runtime.checkpointing.run_snapshot import ResumePoint
from fsmtrain.runtime.checkpointing.selection import FOLDER, has_checkpoints, load_checkpoint
from fsmtrain.runtime.engine import Engine, Result
from fsmtrain.runtime.run_state import Runs
from fsmtrain.signal_handlers import ReceivedSignal, stop_on_signals
from fsmtrain.user_warnings import capture_warnings, warn
from fsmtrain.views.console.default_callbacks import default_callbacks
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.views.diagrams.tally import Counts, Tally
from fsmtrain.views.recording.recorder import create_recorder

if TYPE_CHECKING:
    from fsmtrain.adapters.transitions import RunMachine


RECORD = "record"  # in what a checkpoint says of itself: where the run is recorded, and what it had spent


class Machine(Engine):
    """One run of a model through its loop. Made by `build`; ``run`` it, or ``advance`` one transition at a time."""

    def __init__(
        self,
        options: Options,
        model: nn.Module,
        loaders: Loaders,
        *,
        runs: Runs = "fit",
        guards: Guards | None = None,
        callbacks: Iterable[object] = (),
        trainer: Any = None,
        record_into: Path | None = None,
    ) -> None:
        self.interrupt = ReceivedSignal()  # the signal that has asked the run to stop, if one has
        said: list[str] = []
        self._record = create_recorder(options, trains=runs == "fit", into=record_into, warnings=said)
        given = (*callbacks, *([] if self._record is None else [self._record]), *default_callbacks(options))
        with capture_warnings(said.append):
            super().__init__(
                options,
                model,
                loaders,
                runs=runs,
                guards=guards,
                callbacks=given,
                trainer=trainer,
                takes_notes=self._record is not None,
            )
            self._tell(quick_findings(self.spec))

    def _tell(self, findings: Iterable[Finding]) -> None:
        """Say what is probably not meant, and refuse what is wrong."""
        for finding in findings:
            if finding.severity is Severity.ERROR:
                raise GuardError(f"{finding.about}: {finding.text}")
            warn(f"{finding.about}: {finding.text}")

    # ---- resuming

    def resume(self, path: str | os.PathLike[str] | None = None, *, strict: bool = True) -> Path:
        """Go on where a checkpoint was saved: this machine is brought there, and `run` goes on from there.

        Args:
            path: A run's folder: that run goes on, and is recorded there. A checkpoint, or a folder of them, of which the
                newest valid one is taken: a run begins there that has a folder of its own. None is what ``"auto"`` is.
            strict: If false, continue even if options, guards or sizes differ from those saved; the differences are a warning.

        Returns:
            The checkpoint.

        Raises:
            UsageError: The run has begun, or that one is under way elsewhere.
            CheckpointError: There is no checkpoint, or none that can be read.
            ResumeError: It is not one of a run like this; the machine is of no use then.
        """
        if path is not None:
            where = Path(path)
            run = auto_resume.lock_run(where) if auto_resume.is_run_folder(where) and self._makes_a_folder else None
            return self._go_on(where / FOLDER if auto_resume.is_run_folder(where) else where, run, strict=strict)
        came = self.resume_from("auto", strict=strict)
        if came is None:
            there = f"in {self.spec.options.runs_dir} of a run that this command began" if self._looks_for_runs else "yet"
            raise CheckpointError(f"{self.checkpoints}: there is no checkpoint {there}. A run's folder can be named as well.")
        return came

    def resume_from(self, where: str | os.PathLike[str], *, strict: bool = True) -> Path | None:
        """As `resume`; with ``"auto"`` the run begins anew where there is nothing to go on from.

        ``"auto"`` is the newest run with a checkpoint that the same command began, in `runs_dir`, under the same name; one that
        is under way elsewhere is passed over. It is this run's own folder of checkpoints where ``ModelCheckpoint(dirpath=...)``
        names one, or nothing is recorded.

        Returns:
            The checkpoint; None where the run begins anew.
        """
        if where != "auto":
            return self.resume(where, strict=strict)
        if not self._looks_for_runs:
            if has_checkpoints(self.checkpoints):
                return self._go_on(self.checkpoints, None, strict=strict)
            self._say(f"there is no checkpoint in {self.checkpoints} yet; the run begins")
            return None
        run, said = auto_resume.find_resumable(self.spec.options, self.model)
        if run is not None:
            return self._go_on(run.checkpoints, run, strict=strict)
        runs = self.spec.options.runs_dir
        self._say("; ".join((f"there is no run with a checkpoint in {runs} to go on with", *said, "a new one begins")))
        return None

    @property
    def _makes_a_folder(self) -> bool:
        return self._record is not None and self._record.creates_folder

    @property
    def _looks_for_runs(self) -> bool:
        """Whether this run's checkpoints are in its own folder, which is not known before it begins or is resumed."""
        return self._makes_a_folder and (not self._checkpoints.has_own_folder)

    def _go_on(self, where: Path, run: auto_resume.LockedRun | None, *, strict: bool) -> Path:
        """Go to the checkpoint that is there; what is recorded goes on in the run's folder, if it is one run."""
        try:
            loaded = load_checkpoint(where)
            said = loaded.metadata.get(RECORD) or {}
            folder = said.get("folder")
            is_elsewhere = run is None and where == self.checkpoints and self._makes_a_folder
            if is_elsewhere and folder and auto_resume.is_run_folder(Path(folder)):
                run = auto_resume.lock_run(Path(folder))  # the checkpoints are elsewhere, in ModelCheckpoint(dirpath=...)
            if run is not None and not said:  # the record had failed by then: nobody knows what in it is older
                run.lock.release()
                run = None
            came = self._go_to(loaded, strict=strict)
        except BaseException:
            if run is not None:
                run.lock.release()
            raise
        self._say(f"resumed from {came} ({where_it_stands(self.counters)}), at global_step {self.global_step}")
        if self._record is not None:
            self._record.continue_from(came, said, None if run is None else (run.folder, run.lock))
        if run is not None and (ended := auto_resume.finished_reason(run.folder)):
            warn(f"{run.folder} has ended already, since {ended}. It is trained again from its last checkpoint on.")
        return came

    def _say(self, text: str) -> None:
        if not self.spec.options.quiet:
            print_stderr(text)

    def _more_about(self, standing: ResumePoint) -> dict[str, Any]:
        told = {} if self._record is None else self._record.checkpoint_metadata(self, work_done=standing.work_done)
        return {RECORD: told} if told else {}

    # ---- running

    def run(self) -> Result:
        """Run to the end, from wherever the machine stands.

        Where the run saves, Ctrl-C, SIGTERM and SIGUSR1 are requests to stop while it lasts: it stops at the next transition
        and is saved there. `interrupt` says which one came. A second Ctrl-C stops at once.

        Raises:
            FsmtrainError: A hook returned what it must not, a metric is missing, ...; any exception of a hook comes through.
                Each carries a note that says in which state, epoch and batch it happened.
        """
        if not self.saves:
            return super().run()
        with stop_on_signals(self.stop) as self.interrupt:
            return super().run()

    @property
    def run_dir(self) -> Path | None:
        """The folder in which the run is recorded; None before it begins, and where none is."""
        return None if self._record is None else self._record.path

    @cached_property
    def loop(self) -> Loop:
        """The loop of this run, to iterate over without the model."""
        return Loop(self.spec.options, self.spec.sizes, guards=self.spec.guards, hook=self.spec.hook)

    def as_transitions(self, **options: Any) -> RunMachine:
        """This run as a machine of the package ``transitions``: the same rows, guards, effects and actions, the same state.

        ``machine.as_transitions().model.run()`` trains as `run` does, only slower. Either of the two may make the next
        transition.

        Args:
            options: What ``transitions.extensions.GraphMachine`` takes besides, such as ``title`` or ``graph_engine``.
        """
        from fsmtrain.adapters.transitions import as_transitions  # only here: the library takes time to import

        return as_transitions(self._dispatcher, begin=self._begin, end=self._end, finish=self._finish, **options)

    def plan(self) -> Plan:
        """The exact schedule of this run.

        Raises:
            SizesError: A loader has no length.
        """
        return make_plan(self.spec)

    def check(self) -> Report:
        """What is wrong with this run, or probably not meant."""
        return check_loop(self.spec)

    @property
    def tally(self) -> Tally:
        """How often this run has taken each row of its table so far, and the time in each state."""
        return Tally(self.spec.table, self.trace.taken, {state: spent.seconds for state, spent in self.times.items()})

    def draw(self, path: str | os.PathLike[str], *, counts: bool | Counts = False) -> None:
        """Draw this run's state diagram into a file: ``.svg``, ``.png``, ``.mmd`` for Mermaid, ``.dot`` for Graphviz.

        Args:
            path: The file; its suffix says what is drawn. Pictures need ``pip install 'fsmtrain[draw]'``.
            counts: Whether it is told what the run has done so far: how often it took each arrow, and how long it was in each
                state; before the run, what the plan foretells. Or give a plan, a trace or a tally to be told.

        Raises:
            OptionsError: No drawing has the file's suffix.
            MissingExtraError: What draws pictures is not installed.
            SizesError: The run has not begun and a loader has no length, so that there is no plan.
            UsageError: The counts are those of another loop.
        """
        self.loop.draw(path, counts=self.tally if counts is True and self._begun else counts)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a report of this run: one HTML file that opens anywhere, without a network.

        It is made of what the run has recorded so far, also while the run goes on, or after an error has ended it.
        ``fsmtrain report`` makes the same of a run's folder.

        Raises:
            UsageError: The run has no folder, or the file cannot be written.
        """
        if self._record is None or self._record.path is None:
            off = self.spec.options.runs_dir is None
            why = "runs_dir=None: nothing is recorded" if off else "report: nothing is recorded yet"
            way_out = 'Leave runs_dir at its default, "runs".' if off else "Make the report once the run has begun."
            raise UsageError(f"{why}, and a report is made of a run's folder. {way_out}")
        from fsmtrain.views.recording.report.page import write_report  # only here: no run needs it

        self._record.flush()
        write_report(self._record.path, path)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """The diagram, in a notebook; once the run has begun, with what it has done."""
        from fsmtrain.views.diagrams import formats

        return formats.bundle(self.spec, repr(self), counts=self.tally if self._begun else None)


def build(
    options: Options,
    model: nn.Module,
    *,
    train_dataloader: Any = None,
    val_dataloaders: Any = None,
    test_dataloaders: Any = None,
    guards: Guards | None = None,
    callbacks: Iterable[object] = (),
) -> Machine:
    """A machine that fits a model and then, where there are test loaders, tests it.

    Args:
        options: The flags.
        model: An ``nn.Module`` with ``training_step`` and ``configure_optimizers``; it is moved to the options' device.
        train_dataloader: Anything that yields batches, anew each time it is iterated over. None asks the model.
        val_dataloaders: One loader or a list of them. None asks the model; an empty list is none.
        test_dataloaders: The same for the test.
        guards: The decisions that are replaced.
        callbacks: Objects with any of the hooks of `Callback`.

    Raises:
        FsmtrainError: Anything that is wrong and can be seen before the first batch.
    """
    loaders = Loaders(train=train_dataloader, val=val_dataloaders, test=test_dataloaders)
    return Machine(options, model, loaders, guards=guards, callbacks=callbacks)
