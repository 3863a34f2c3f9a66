"""What may be wrong with what a run has on the disk."""


class LedgerError(Exception):
    """The ledger cannot be read or written; says where, and why."""


class LedgerDamaged(LedgerError):
    """What the ledger holds cannot be used: to start again would not help."""
