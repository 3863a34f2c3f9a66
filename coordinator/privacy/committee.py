"""Answers are hidden under short keys of a ring, and `tolerated` + 1 of a committee open the sum of
a round's keys. An experiment, that no cryptographer has reviewed: docs/committee.md.

    coordinator            hidden answers, and their sum over a round, floor of them at least
    `tolerated` members, also together with a coordinator that keeps to its rules and with each
                           other: nothing more, as long as ring-LWE with these numbers is hard. Of
                           a coordinator that lies: `places` and those that leak must be fewer than
                           2 * (`tolerated` + 1)
    `tolerated` + 1 of them, together with the coordinator: every single answer
    broker                 hidden answers, sealed seeds, sums of masks: with those the sum too

Who is in it does what keyholders do, by the same rules; but of each answer it adds up 2,048
numbers, and not as many as the model has. So a device can do it beside its training.
"""

from coordinator.privacy import keyholders

MASKS = True
EXPERIMENT = True

places = keyholders.places
