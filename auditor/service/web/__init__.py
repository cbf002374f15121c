"""The front door over HTTP: the API under /v1, pages, and what both keep out."""
