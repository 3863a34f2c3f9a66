"""What can be wrong with what a run has on its disk.

In a file of their own, so that a strategy can tell of damage without having the database.
"""


class LedgerError(Exception):
    """The ledger cannot be read or written; says where, and why."""


class LedgerDamaged(LedgerError):
    """What the ledger holds or names cannot be used: to start again would not help."""
