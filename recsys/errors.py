"""The error a user can act on: tools print it as one line and exit with 2."""


class InputError(ValueError):
    """Bad input from outside: a config, file, column or id. The message names it and what was expected."""
