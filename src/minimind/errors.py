"""The one exception a user may see."""


class UserError(Exception):
    """A mistake the user can mend: one sentence saying what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class WorkFailed(Exception):
    """The work itself failed, by nobody's mistake: one sentence; exit code 1."""


def missing_extra(package: str, extra: str) -> UserError:
    """The error for an optional package that is not installed."""
    return UserError(
        f"{package} is not installed; get it with: pip install {package} (or all of the extra: minimind[{extra}])"
    )
