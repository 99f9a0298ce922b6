"""What users are meant to see: the one exception, and the one warning."""


class InputError(RuntimeError):
    """Something that the user gave is wrong. The message names the file, key or value, and the cure."""


class RelevanceWarning(UserWarning):
    """Maps that are what their method says, and yet should not be relied on. The message says why, and what to do."""
