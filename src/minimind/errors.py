"""The one exception a user may see."""

LONGEST = 1500  # characters of a message: what is quoted from a file or a flag may be of any length


class UserError(Exception):
    """A mistake the user can mend: one sentence saying what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2. Of a long one the middle is left out.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        super().__init__(text)


class WorkFailed(Exception):
    """The work itself failed, by nobody's mistake: one sentence; exit code 1."""


def missing_extra(package: str, extra: str) -> UserError:
    """The error for an optional package that is not installed."""
    return UserError(
        f"{package} is not installed; get it with: pip install {package} (or all of the extra: minimind[{extra}])"
    )
