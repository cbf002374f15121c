"""Why something was not audited, in a closed list for programs to decide by. Imports the standard library alone."""

from typing import Literal

Code = Literal[
    "unreachable",  # the network, a name that does not resolve, TLS, no answer in time, or a server's own failure (5xx)
    "throttled",  # a server that asks for less (429, or 503 with Retry-After) until the time for it was over
    "changed",  # a file that became another one while it was read, or since it was listed
    "unauthorized",  # 401: credentials are missing or not accepted
    "forbidden",  # 403: credentials do not open it
    "not_found",  # 404 or 410
    "not_allowed",  # a host, an address or a file that whoever runs the audit does not allow
    "unusable",  # a server that answers what cannot be used: no ranges, a page in a file's place, an endless list
    "unreadable",  # this machine's files: permission, input and output
    "limit",  # more than a limit of the policy or of the command allows
    "cancelled",  # by whoever runs the audit
    "out_of_memory",
    "unsupported",  # a model_type or a format that no family knows
    "crashed",  # a rule or a reader, by a mistake of the auditor's own
    "not_saved",  # what was to be kept for a resumed audit
]

# What an exception carries that ends an audit without a report.
Cause = Literal[
    Code,
    "nothing",  # nothing to audit is there
    "usage",  # what was asked for cannot be
    "invalid",  # config.json has faults that leave nothing to answer from
]
