"""The one exception that users are meant to see."""


class InputError(RuntimeError):
    """Something that the user gave is wrong. The message names the file, key or value, and the cure."""
