"""What asks for audits by itself: webhooks of others, and watches, which look whether a checkpoint has changed."""
