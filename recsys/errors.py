"""The error a user can act on: tools print it as one line and exit with 2."""


class InputError(ValueError):
    """Bad input from outside: a config, file, column or id. The message names it and what was expected."""


class RelayedError(InputError):
    """An `InputError` of the first rank, raised on the others too so that all of them end; the first one prints it."""
