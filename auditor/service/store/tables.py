"""The tables. Times are milliseconds since 1970 by the database's clock; ids sort by when they were made."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

STATES = ("queued", "running", "finished", "failed", "cancelled")
FINAL = ("finished", "failed", "cancelled")
# An index of some rows answers only what names these rows with the same words: a parameter could be anything.
IS_OPEN = text("state IN ('queued', 'running')")
IS_JOBLESS = text("state = 'queued' AND job IS NULL")
IS_WAITING = text("state = 'waiting'")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Time = BigInteger

keys = Table(
    "keys",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", LargeBinary, nullable=False),
    comment="Random secrets of this installation, made once: what cursors and cookies are sealed with.",
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes", String(40), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time),
    Column("revoked_at", Time),
    Column("last_used_at", Time),
    comment="API tokens; the token itself is never kept.",
)

policies = Table(
    "policies",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("changed_at", Time, nullable=False),
    comment="Named policies of the administrator, as TOML.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("source", String(2000), nullable=False, unique=True),
    Column("created_at", Time, nullable=False),
    Column("latest_audit", String(26)),
    Column("latest_at", Time, nullable=False),
    Index("ix_checkpoints_latest", "latest_at", "id"),
    comment="Every source that was audited, without its revision. The latest audit is the last that finished and is "
    "not of a pull request, `latest_at` when it did, or when the source was first asked for.",
)

audits = Table(
    "audits",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("checkpoint", String(26), ForeignKey("checkpoints.id"), nullable=False),
    # What was asked for.
    Column("source", String(2000), nullable=False),
    Column("revision", String(300)),
    Column("depth", String(10), nullable=False),
    Column("family", String(100)),
    Column("policy", String(100)),
    Column("policy_text", Text),
    Column("policy_sha256", String(64)),
    Column("baseline", String(64)),
    Column("seed", BigInteger),
    Column("force", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("queue", String(10), nullable=False),
    Column("host", String(300), nullable=False),
    Column("request", String(64), nullable=False),
    Column("origin", String(300)),
    Column("token", String(26)),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Time, nullable=False),
    # Where it is.
    Column("state", String(10), nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("due_at", Time, nullable=False),
    Column("job", String(60)),
    Column("worker", String(40)),
    Column("losses", Integer, nullable=False, server_default=text("0")),
    Column("started_at", Time),
    Column("ended_at", Time),
    Column("progress", Text),
    # What came of it.
    Column("verdict", String(10)),
    Column("errors", Integer),
    Column("warnings", Integer),
    Column("cause", String(40)),
    Column("reason", Text),
    Column("resolved", String(300)),
    Column("fingerprint", String(64)),
    Column("report", String(64)),
    Column("same_as", String(26)),
    Column("tool", String(40)),
    CheckConstraint(f"state IN {STATES}", name="state"),
    CheckConstraint("(state = 'finished') = (report IS NOT NULL)", name="report"),
    CheckConstraint("(state = 'finished') = (verdict IS NOT NULL)", name="verdict"),
    CheckConstraint("(state IN ('finished', 'failed', 'cancelled')) = (ended_at IS NOT NULL)", name="ended"),
    # Equal requests that are not yet final are one audit.
    Index(
        "uq_audits_open_request",
        "request",
        unique=True,
        sqlite_where=IS_OPEN,
        postgresql_where=IS_OPEN,
    ),
    Index("ix_audits_created", "created_at", "id"),
    Index("ix_audits_state", "state", "created_at", "id"),
    Index("ix_audits_verdict", "verdict", "created_at", "id"),
    Index("ix_audits_depth", "depth", "created_at", "id"),
    Index("ix_audits_checkpoint", "checkpoint", "created_at", "id"),
    Index("ix_audits_queue", "queue", "state", "priority", "created_at", "id"),
    Index("ix_audits_worker", "worker", "state"),
    Index("ix_audits_due", "due_at", sqlite_where=IS_JOBLESS, postgresql_where=IS_JOBLESS),
    Index("ix_audits_resolved", "resolved"),
    Index("ix_audits_report", "report"),
    Index(
        "ix_audits_same_as",
        "same_as",
        sqlite_where=text("same_as IS NOT NULL"),
        postgresql_where=text("same_as IS NOT NULL"),
    ),
    Index(
        "ix_audits_baseline",
        "baseline",
        sqlite_where=text("baseline IS NOT NULL"),
        postgresql_where=text("baseline IS NOT NULL"),
    ),
    comment="What was asked for and what came of it: the truth about an audit.",
)

attempts = Table(
    "attempts",
    metadata,
    Column("audit", String(26), ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("worker", String(40), nullable=False),
    Column("started_at", Time, nullable=False),
    Column("ended_at", Time),
    Column("cause", String(40)),
    Column("reason", Text),
    Column("log", Text, nullable=False, server_default=""),
    Column("bytes_read", BigInteger, nullable=False, server_default=text("0")),
    comment="Each try of an audit, with the beginning and the end of what its process wrote.",
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("host", String(300), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("tool", String(40), nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("started_at", Time, nullable=False),
    Column("seen_at", Time, nullable=False),
    Column("ended_at", Time),
    Column("ended", String(10)),
    Index("ix_workers_ended", "ended_at"),
    comment="One row for each start of a worker; `ended` is stopped or lost. Nobody is judged by these times.",
)

submissions = Table(
    "submissions",
    metadata,
    Column("owner", String(40), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body", String(64), nullable=False),
    Column("audit", String(26), ForeignKey("audits.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Time, nullable=False),
    Index("ix_submissions_audit", "audit"),
    comment="Idempotency keys, by who gave them, with the SHA-256 of what was submitted under them.",
)

chores = Table(
    "chores",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("due_at", Time, nullable=False),
    Column("paused_until", Time, nullable=False, server_default=text("0")),
    comment="What one worker does now and then: when it is due next, and until when a backup holds it up.",
)

orphans = Table(
    "orphans",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("found_at", Time, nullable=False),
    comment="Reports that no audit refers to, since when; 0 where their audit was removed. They go a day later.",
)

origins = Table(
    "origins",
    metadata,
    Column("audit", String(26), ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("origin", String(300), primary_key=True),
    comment="All that asked for an audit and was no person: of equal requests each has to be told what came of it.",
)

watches = Table(
    "watches",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("source", String(2000), nullable=False),
    Column("revision", String(300)),
    Column("depth", String(10), nullable=False),
    Column("policy", String(100)),
    Column("every_s", Integer, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("due_at", Time, nullable=False),
    Column("job", String(60)),
    Column("looked_at", Time),
    Column("commit", String(300)),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text),
    # One for each source and revision, of which none is one too.
    Index("uq_watches_watched", "source", text("coalesce(revision, '')"), unique=True),
    Index("ix_watches_due", "due_at"),
    comment="Repositories that are looked at again and again; `reason` says why the last look failed.",
)

targets = Table(
    "targets",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("name", String(100), nullable=False, unique=True),
    Column("options", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("off_at", Time),
    Column("off_reason", Text),
    # It did not answer: nothing is sent before then, so that it holds up no other.
    Column("quiet_until", Time),
    comment="Who is notified of every final state: a webhook, or a commit status or comment elsewhere.",
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("target", String(26), ForeignKey("targets.id", ondelete="CASCADE"), nullable=False),
    Column("audit", String(26), ForeignKey("audits.id", ondelete="CASCADE"), nullable=False),
    Column("origin", String(300)),
    Column("body", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Time, nullable=False),
    Column("due_at", Time, nullable=False),
    Column("job", String(60)),
    Column("tried_at", Time),
    Column("ended_at", Time),
    Column("status", Integer),
    Column("answer", Text),
    CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name="state"),
    CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended"),
    Index("ix_deliveries_created", "created_at", "id"),
    Index("ix_deliveries_audit", "audit"),
    Index("ix_deliveries_target", "target", "id"),
    Index("ix_deliveries_origin", "origin", "target", "id"),
    Index("ix_deliveries_due", "due_at", sqlite_where=IS_WAITING, postgresql_where=IS_WAITING),
    comment="One notification to one target, with the last answer. `attempt` counts jobs, `tries` those that ended.",
)
