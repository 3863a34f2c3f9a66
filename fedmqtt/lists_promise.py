"""What an offer promises of the lists that an answer may be on, where one key is for several.

Pure, and known to agents.

No answer is on two lists of a keyholder. So what one keyholder tells of a seed are sums of disjoint
sets of answers, and whatever is made of those has in it all of such a set, or nothing of it.

Keyholders that hold the same seed could be shown different lists, however, each of whose own are
disjoint. Of three, any two of whom open a sum, with A, B and C any sets of others:

                    kh-0           kh-1           kh-2           ann's masks are differences:
    first list      A and ann      A              B              seed 2: kh-0 less kh-1
    second list     C              B and ann      C and ann      seed 0: kh-1 less kh-2, seed 1: ...

So answers that may be on several lists are masked for `tolerated` + 1 keyholders, whoever they are
that day, and no more: then each of those is the only one that has some seed, and one of them at
least is honest. All of them must be there to open a sum. Where a key is for one list, the same
cannot be done. `tests/keyholder/test_several_lists.py` and `test_lists_apart.py` look for either.
"""

from fedmqtt.messages import Masking

KEEP_DAYS = 7.0
"""So old keyholders' keys become, used or not, unless their owners say otherwise. One that is half
as old is offered no more."""


def fault(masking: Masking) -> str:
    """Why it promises nothing though it says so, in a sentence; empty where nothing is wrong."""
    if not masking.mixes_rounds:
        return ""
    if masking.lists_max > 1 and (named := len(masking.keyholders)) > masking.tolerated + 1:
        return (
            f"{masking.lists_max} lists may be opened with one key of each of {named} keyholders,"
            f" and {masking.tolerated + 1} open a sum: so many may be named and no more, as they"
            " could be shown lists that differ by one client"
        )
    if masking.is_measured or masking.block_norms:
        return "what clients measure, or tell of blocks, is of one model, and each counts once"
    return ""
