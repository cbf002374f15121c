"""The life of an audit: asked for, queued, tried by processes of its own, and ended once."""
