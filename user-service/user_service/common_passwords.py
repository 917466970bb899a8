"""Which passwords are too common to be taken."""

MOST_COMMON = 10_000
# No common password is longer, and the estimate's cost grows steeply with the length (20: 0.15 s at worst).
LONGEST = 20


def is_common(password: str) -> bool:
    """Tell whether who tries passwords by their frequency finds this one within 10,000 tries, in any case.

    Knows leaked passwords, words and names by their rank, and repetitions, rows of keys and sequences.
    """
    if len(password) > LONGEST:
        return False
    # Imported when it is first needed: its lists take 10 MB, which no worker has to hold.
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]

    # Its estimate adds one try to the rank of the word found.
    return bool(zxcvbn(password.lower())["guesses"] <= MOST_COMMON + 1)
