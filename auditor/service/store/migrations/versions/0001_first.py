"""The first schema: every table as it was when the service came."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("source", sa.String(length=2000), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("latest_audit", sa.String(length=26), nullable=True),
        sa.Column("latest_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint("source", name=op.f("uq_checkpoints_source")),
        comment="Every source that was audited, without its revision. The latest audit is the last that finished and is not of a pull request, `latest_at` when it did, or when the source was first asked for.",
    )
    op.create_index("ix_checkpoints_latest", "checkpoints", ["latest_at", "id"], unique=False)
    op.create_table(
        "chores",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("paused_until", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
        comment="What one worker does now and then: when it is due next, and until when a backup holds it up.",
    )
    op.create_table(
        "keys",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_keys")),
        comment="Random secrets of this installation, made once: what cursors and cookies are sealed with.",
    )
    op.create_table(
        "orphans",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_orphans")),
        comment="Reports that no audit refers to, since when; 0 where their audit was removed. They go a day later.",
    )
    op.create_table(
        "policies",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("name", name=op.f("uq_policies_name")),
        comment="Named policies of the administrator, as TOML.",
    )
    op.create_table(
        "targets",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("off_at", sa.BigInteger(), nullable=True),
        sa.Column("off_reason", sa.Text(), nullable=True),
        sa.Column("quiet_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_targets")),
        sa.UniqueConstraint("name", name=op.f("uq_targets_name")),
        comment="Who is notified of every final state: a webhook, or a commit status or comment elsewhere.",
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tokens_sha256")),
        comment="API tokens; the token itself is never kept.",
    )
    op.create_table(
        "watches",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("source", sa.String(length=2000), nullable=False),
        sa.Column("revision", sa.String(length=300), nullable=True),
        sa.Column("depth", sa.String(length=10), nullable=False),
        sa.Column("policy", sa.String(length=100), nullable=True),
        sa.Column("every_s", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.String(length=60), nullable=True),
        sa.Column("looked_at", sa.BigInteger(), nullable=True),
        sa.Column("commit", sa.String(length=300), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watches")),
        comment="Repositories that are looked at again and again; `reason` says why the last look failed.",
    )
    op.create_index("uq_watches_watched", "watches", ["source", sa.text("coalesce(revision, '')")], unique=True)
    op.create_index("ix_watches_due", "watches", ["due_at"], unique=False)
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("host", sa.String(length=300), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("tool", sa.String(length=40), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.String(length=10), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        comment="One row for each start of a worker; `ended` is stopped or lost. Nobody is judged by these times.",
    )
    op.create_index("ix_workers_ended", "workers", ["ended_at"], unique=False)
    op.create_table(
        "audits",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("checkpoint", sa.String(length=26), nullable=False),
        sa.Column("source", sa.String(length=2000), nullable=False),
        sa.Column("revision", sa.String(length=300), nullable=True),
        sa.Column("depth", sa.String(length=10), nullable=False),
        sa.Column("family", sa.String(length=100), nullable=True),
        sa.Column("policy", sa.String(length=100), nullable=True),
        sa.Column("policy_text", sa.Text(), nullable=True),
        sa.Column("policy_sha256", sa.String(length=64), nullable=True),
        sa.Column("baseline", sa.String(length=64), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("force", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=10), nullable=False),
        sa.Column("host", sa.String(length=300), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=300), nullable=True),
        sa.Column("token", sa.String(length=26), nullable=True),
        sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.String(length=60), nullable=True),
        sa.Column("worker", sa.String(length=40), nullable=True),
        sa.Column("losses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("verdict", sa.String(length=10), nullable=True),
        sa.Column("errors", sa.Integer(), nullable=True),
        sa.Column("warnings", sa.Integer(), nullable=True),
        sa.Column("cause", sa.String(length=40), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("resolved", sa.String(length=300), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("report", sa.String(length=64), nullable=True),
        sa.Column("same_as", sa.String(length=26), nullable=True),
        sa.Column("tool", sa.String(length=40), nullable=True),
        sa.CheckConstraint("(state = 'finished') = (report IS NOT NULL)", name=op.f("ck_audits_report")),
        sa.CheckConstraint("(state = 'finished') = (verdict IS NOT NULL)", name=op.f("ck_audits_verdict")),
        sa.CheckConstraint(
            "(state IN ('finished', 'failed', 'cancelled')) = (ended_at IS NOT NULL)", name=op.f("ck_audits_ended")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'finished', 'failed', 'cancelled')", name=op.f("ck_audits_state")
        ),
        sa.ForeignKeyConstraint(["checkpoint"], ["checkpoints.id"], name=op.f("fk_audits_checkpoint")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audits")),
        comment="What was asked for and what came of it: the truth about an audit.",
    )
    op.create_index(
        "ix_audits_baseline",
        "audits",
        ["baseline"],
        unique=False,
        sqlite_where=sa.text("baseline IS NOT NULL"),
        postgresql_where=sa.text("baseline IS NOT NULL"),
    )
    op.create_index("ix_audits_checkpoint", "audits", ["checkpoint", "created_at", "id"], unique=False)
    op.create_index("ix_audits_created", "audits", ["created_at", "id"], unique=False)
    op.create_index("ix_audits_depth", "audits", ["depth", "created_at", "id"], unique=False)
    op.create_index(
        "ix_audits_due",
        "audits",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND job IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND job IS NULL"),
    )
    op.create_index("ix_audits_queue", "audits", ["queue", "state", "priority", "created_at", "id"], unique=False)
    op.create_index("ix_audits_report", "audits", ["report"], unique=False)
    op.create_index("ix_audits_resolved", "audits", ["resolved"], unique=False)
    op.create_index(
        "ix_audits_same_as",
        "audits",
        ["same_as"],
        unique=False,
        sqlite_where=sa.text("same_as IS NOT NULL"),
        postgresql_where=sa.text("same_as IS NOT NULL"),
    )
    op.create_index("ix_audits_state", "audits", ["state", "created_at", "id"], unique=False)
    op.create_index("ix_audits_verdict", "audits", ["verdict", "created_at", "id"], unique=False)
    op.create_index("ix_audits_worker", "audits", ["worker", "state"], unique=False)
    op.create_index(
        "uq_audits_open_request",
        "audits",
        ["request"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_table(
        "attempts",
        sa.Column("audit", sa.String(length=26), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=40), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("cause", sa.String(length=40), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("log", sa.Text(), server_default="", nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["audit"], ["audits.id"], name=op.f("fk_attempts_audit"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("audit", "n", name=op.f("pk_attempts")),
        comment="Each try of an audit, with the beginning and the end of what its process wrote.",
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("target", sa.String(length=26), nullable=False),
        sa.Column("audit", sa.String(length=26), nullable=False),
        sa.Column("origin", sa.String(length=300), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.String(length=60), nullable=True),
        sa.Column("tried_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name=op.f("ck_deliveries_ended")),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(["audit"], ["audits.id"], name=op.f("fk_deliveries_audit"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["target"], ["targets.id"], name=op.f("fk_deliveries_target"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        comment="One notification to one target, with the last answer. `attempt` counts jobs, `tries` those that ended.",
    )
    op.create_index("ix_deliveries_audit", "deliveries", ["audit"], unique=False)
    op.create_index("ix_deliveries_created", "deliveries", ["created_at", "id"], unique=False)
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_deliveries_origin", "deliveries", ["origin", "target", "id"], unique=False)
    op.create_index("ix_deliveries_target", "deliveries", ["target", "id"], unique=False)
    op.create_table(
        "origins",
        sa.Column("audit", sa.String(length=26), nullable=False),
        sa.Column("origin", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(["audit"], ["audits.id"], name=op.f("fk_origins_audit"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("audit", "origin", name=op.f("pk_origins")),
        comment="All that asked for an audit and was no person: of equal requests each has to be told what came of it.",
    )
    op.create_table(
        "submissions",
        sa.Column("owner", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body", sa.String(length=64), nullable=False),
        sa.Column("audit", sa.String(length=26), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["audit"], ["audits.id"], name=op.f("fk_submissions_audit"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_submissions")),
        comment="Idempotency keys, by who gave them, with the SHA-256 of what was submitted under them.",
    )
    op.create_index("ix_submissions_audit", "submissions", ["audit"], unique=False)


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_submissions_audit", table_name="submissions")
    op.drop_table("submissions")
    op.drop_table("origins")
    op.drop_index("ix_deliveries_target", table_name="deliveries")
    op.drop_index("ix_deliveries_origin", table_name="deliveries")
    op.drop_index(
        "ix_deliveries_due",
        table_name="deliveries",
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.drop_index("ix_deliveries_created", table_name="deliveries")
    op.drop_index("ix_deliveries_audit", table_name="deliveries")
    op.drop_table("deliveries")
    op.drop_table("attempts")
    op.drop_index(
        "uq_audits_open_request",
        table_name="audits",
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.drop_index("ix_audits_worker", table_name="audits")
    op.drop_index("ix_audits_verdict", table_name="audits")
    op.drop_index("ix_audits_state", table_name="audits")
    op.drop_index(
        "ix_audits_same_as",
        table_name="audits",
        sqlite_where=sa.text("same_as IS NOT NULL"),
        postgresql_where=sa.text("same_as IS NOT NULL"),
    )
    op.drop_index("ix_audits_resolved", table_name="audits")
    op.drop_index("ix_audits_report", table_name="audits")
    op.drop_index("ix_audits_queue", table_name="audits")
    op.drop_index(
        "ix_audits_due",
        table_name="audits",
        sqlite_where=sa.text("state = 'queued' AND job IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND job IS NULL"),
    )
    op.drop_index("ix_audits_depth", table_name="audits")
    op.drop_index("ix_audits_created", table_name="audits")
    op.drop_index("ix_audits_checkpoint", table_name="audits")
    op.drop_index(
        "ix_audits_baseline",
        table_name="audits",
        sqlite_where=sa.text("baseline IS NOT NULL"),
        postgresql_where=sa.text("baseline IS NOT NULL"),
    )
    op.drop_table("audits")
    op.drop_index("ix_workers_ended", table_name="workers")
    op.drop_table("workers")
    op.drop_index("uq_watches_watched", table_name="watches")
    op.drop_index("ix_watches_due", table_name="watches")
    op.drop_table("watches")
    op.drop_table("tokens")
    op.drop_table("targets")
    op.drop_table("policies")
    op.drop_table("orphans")
    op.drop_table("keys")
    op.drop_table("chores")
    op.drop_index("ix_checkpoints_latest", table_name="checkpoints")
    op.drop_table("checkpoints")
