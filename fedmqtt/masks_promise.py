"""What an offer promises of masks: that they open as its mode says, to no fewer, and one list.

Pure, and one for all: a device asks before it trains, and again before it masks; a keyholder before
it opens. Whose keys they are is another matter.

    trusted       one place, and the one that is there
    keyholders,   `tolerated` of them learn nothing, and so many at most may be away that
    committee     `tolerated` + 1 are there, who hold all seeds; fewer than twice as many, so that
                  two sets that open a sum have one in common, which, if honest, opens one list
"""

from fedmqtt import committee_promise, lists_promise, noise_promise
from fedmqtt.messages import Masking


def fault(masking: Masking) -> str:
    """Why it promises nothing though it says so, in a sentence; empty where nothing is wrong."""
    return (
        _misplaced(masking)
        or noise_promise.fault(masking)
        or lists_promise.fault(masking)
        or committee_promise.fault(masking)
    )


def _misplaced(masking: Masking) -> str:
    given, tolerated, places = masking.keyholders, masking.tolerated, masking.places
    if masking.mode == "trusted":
        fits = (places, tolerated, len(given)) == (1, 0, 1)
    else:
        fits = 1 <= tolerated < min(places, len(given))
    taken = {holder.place for holder in given}
    if not fits or len(taken) < len(given) or max(taken) >= places:
        return (
            f"masks for {places} keyholders, {tolerated} of which may leak, would be given to those"
            f" in places {', '.join(str(holder.place) for holder in given)}: that is not"
            f" {masking.mode!r}"
        )
    if len(given) >= 2 * (tolerated + 1):
        return (
            f"{len(given)} keyholders, any {tolerated + 1} of whom open a sum: two halves of them"
            " could be shown two lists"
        )
    names = {holder.name for holder in given}
    publics = {holder.key.public for holder in given}
    if not len(names) == len(publics) == len(given):
        return "the same keyholder would be given two places"
    return ""
