"""What may be wrong with what is kept of a run."""


class LedgerError(Exception):
    """The ledger cannot be read or written; says where, and why."""


class LedgerDamaged(LedgerError):
    """What the ledger holds cannot be used: to start again would not help."""


class LedgerTaken(LedgerError):
    """Another program has gone on with the run: it is not ours any more."""


class ObjectStoreError(OSError):
    """What is wrong with the store that has models, in a sentence."""


class RunInUse(Exception):
    """Another program works in the run; says which, where that can be read."""
