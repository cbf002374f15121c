"""`auditor serve`: a checkpoint auditing service with nothing else installed, until it is told to stop."""

import argparse
import sys

from auditor.cli import service_options


def run(options: argparse.Namespace) -> int:
    """Serve, and return the exit code."""
    settings = service_options.settings(options, host=options.host, port=options.port, role=options.role)
    try:
        from auditor.service.serve import serve
    except ImportError as error:
        raise service_options.missing(error) from None
    return serve(settings, _tell, terminal=sys.stderr.isatty())


def _tell(line: str) -> None:
    from auditor.text import shown

    sys.stderr.write(f"auditor: {shown(line)}\n")
    sys.stderr.flush()


def options(parser: argparse.ArgumentParser) -> None:
    """Where the installation is, where it listens, and what this process runs."""
    service_options.options(parser)
    parser.add_argument("--host", metavar="ADDRESS", help="the address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, metavar="N", help="the port; 0 takes any that is free (default: 8765)")
    parser.add_argument(
        "--role",
        choices=["all", "api", "worker"],
        help="what this process runs: the API with its pages, a worker, or both (default: all)",
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: needs a port from 0 to 65535")
    return int(text)
