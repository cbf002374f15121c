"""What the service keeps: rows in SQLite or PostgreSQL, reports as files named by their SHA-256."""
