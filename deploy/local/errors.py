"""What stops a start, as one sentence for the person who typed the command."""


class SetupError(Exception):
    """Say in one sentence what is wrong and which setting or command changes it."""
