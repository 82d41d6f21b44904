"""`lifecycle doctor`: what is there for a deployment, and what is not."""

import os
import sys

from rich.console import Console

STYLES = {"ok": "green", "note": "yellow", "missing": "red"}


def doctor() -> None:
    """Check programs, credentials, region and quotas; exit status 1 if something that is needed is missing."""
    import boto3  # noqa: PLC0415

    from lifecycle.doctoring import examine_account, examine_machine  # noqa: PLC0415

    console = Console(soft_wrap=True, highlight=False, markup=False)
    missing = False
    for findings in (examine_machine(compiler=os.environ.get("CXX", "c++")), examine_account(boto3.client)):
        for finding in findings:
            console.print(f"{finding.state:<8}", style=STYLES[finding.state], end="")
            console.print(f"{finding.name:<12}{finding.text}")
            missing |= finding.state == "missing"
    if missing:
        sys.exit(1)
