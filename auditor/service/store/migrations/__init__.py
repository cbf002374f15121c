"""The schema's history, as Alembic applies it: see `auditor.service.migrate`."""
