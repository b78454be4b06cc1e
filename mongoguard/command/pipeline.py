"""The pipeline walk: from an aggregation pipeline to what it needs.

In: a pipeline as an unscanned array, the namespace it reads. Out: a `Requirement`. Sub-pipelines are walked; what is
not understood ends in a `CommandError`, never in a smaller requirement. Must not know commands or who asks beyond
the `Asker`. Names are taken as written: whether one is a view is the server's to know, as mongod has it.
"""

from __future__ import annotations

from mongoguard.command.requires import all_of
from mongoguard.command.spec import Asker
from mongoguard.command.stage_sources import COLLECTIONLESS, FIND
from mongoguard.command.stages import STAGES, UPDATE_STAGES, StageRow
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType
from mongoguard.model.privilege import Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.wire.document import DOCUMENT, Document

__all__ = [
    "COLLECTIONLESS",
    "MAX_DEPTH",
    "MAX_STAGES",
    "Walk",
    "check_update_pipeline",
    "pipeline_requirement",
    "stage_names",
]

MAX_DEPTH = 20
"""Sub-pipelines inside each other; mongod's own limit for joins and views."""
MAX_STAGES = 10_000
"""Stages in one command, sub-pipelines included: the walk must end quickly. The limit of one pipeline (1000, or
`internalPipelineLengthLimit`) is the server's to keep: mongod counts when it runs a pipeline, after the privileges."""

_BYPASS = frozenset({ActionType.BYPASS_DOCUMENT_VALIDATION})


class Walk:
    """One walk over a command's pipeline: collects what its stages need."""

    __slots__ = ("_budget", "_needed", "asker", "bypass", "db")

    def __init__(self, db: str, asker: Asker, bypass: bool) -> None:
        """`db`: the database of the pipeline being walked. `bypass`: the command bypasses document validation, so
        writing stages need that action too.
        """
        self.db = db
        self.asker = asker
        self.bypass = bypass
        self._needed: dict[ResourcePattern, frozenset[str]] = {}
        self._budget = MAX_STAGES

    def need(self, resource: ResourcePattern, actions: frozenset[str]) -> None:
        """The pipeline needs these actions on that resource."""
        held = self._needed.get(resource)
        self._needed[resource] = actions if held is None else held | actions

    def write(self, db: str, collection: str, actions: frozenset[str]) -> None:
        """A stage writes to that namespace."""
        resource = ResourcePattern(MatchType.EXACT_NAMESPACE, db, collection)
        self.need(resource, actions | _BYPASS if self.bypass else actions)

    def run(
        self, db: str, collection: str, pipeline: Document | None, depth: int = 0, *, reads: bool = True
    ) -> None:
        """Walk one pipeline over `db.collection`; None is the empty pipeline.

        `reads`: its documents come from that collection, which needs find unless the first stage is a source.
        """
        if depth > MAX_DEPTH:
            raise CommandError(232, f"Maximum number of nested sub-pipelines exceeded. Limit is {MAX_DEPTH}")
        outer, self.db = self.db, db  # names inside a joined pipeline belong to the joined database
        stages = [] if pipeline is None else self._stages(pipeline)
        if reads and not (stages and stages[0][1].is_source):
            self.need(ResourcePattern(MatchType.EXACT_NAMESPACE, db, collection), FIND)
        for name, row, stage in stages:
            if row.walk is not None:
                row.walk(self, name, stage, collection, depth)
        self.db = outer

    def run_update(self, pipeline: Document) -> None:
        """Walk a pipeline that updates documents: only stages that touch nothing else are let through."""
        for name, _row, _stage in self._stages(pipeline):
            if name not in UPDATE_STAGES:
                raise CommandError(
                    ErrorCode.INVALID_OPTIONS, f"{name} is not allowed to be used within an update"
                )

    def requirement(self) -> Requirement:
        """Everything the walk has met."""
        if len(self._needed) == 1:
            return Privilege(*next(iter(self._needed.items())))
        return all_of(Privilege(resource, actions) for resource, actions in self._needed.items())

    def _stages(self, pipeline: Document) -> list[tuple[str, StageRow, Document]]:
        self._budget -= len(pipeline.fields)
        if self._budget < 0:
            raise CommandError(
                ErrorCode.FAILED_TO_PARSE,
                f"The pipelines of a command must be no longer than {MAX_STAGES} stages together",
            )
        return [_stage(pipeline, key) for key in pipeline.fields]


def _stage(pipeline: Document, key: str) -> tuple[str, StageRow, Document]:
    element = pipeline.fields[key]
    if element[0] != DOCUMENT:
        raise CommandError(ErrorCode.TYPE_MISMATCH, "Each element of the 'pipeline' array must be an object")
    stage = Document(pipeline.data, element[2], element[3], pipeline.depth + 1)
    if len(stage.fields) != 1:
        raise CommandError(40323, "A pipeline stage specification object must contain exactly one field.")
    (name,) = stage.fields
    row = STAGES.get(name)
    if row is None:
        raise CommandError(40324, f"Unrecognized pipeline stage name: '{name}'")
    if row.refusal:
        raise CommandError(5491300, f"{name}' is not allowed in user requests", reason=row.refusal)
    return name, row, stage


def pipeline_requirement(
    db: str, collection: str, pipeline: Document | None, asker: Asker, *, bypass: bool = False
) -> Requirement:
    """What running that pipeline over `db.collection` needs.

    Raises `CommandError` for a pipeline that mongod would not parse, or that mongoguard does not understand.
    """
    walk = Walk(db, asker, bypass)
    walk.run(db, collection, pipeline)
    return walk.requirement()


def check_update_pipeline(pipeline: Document) -> None:
    """Raise `CommandError` when a pipeline that updates has a stage that has no place in updates."""
    Walk("", Asker(), bypass=False).run_update(pipeline)


def stage_names(pipeline: Document) -> tuple[str, ...]:
    """The names of the stages of a pipeline that was walked before."""
    return tuple(_stage(pipeline, key)[0] for key in pipeline.fields)
