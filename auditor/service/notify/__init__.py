"""Notifications: every final state, told to the targets that an administrator has added, at least once."""
