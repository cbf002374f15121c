"""Pydantic models at the auditor's boundaries: configuration, index, policy, rules and reports."""
