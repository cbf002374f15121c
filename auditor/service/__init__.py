"""Audits on request and on every upload, with published reports: HTTP, pages, jobs, a store. The extra `service`."""
