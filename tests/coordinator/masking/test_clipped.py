"""What is told of how much was clipped under masks."""

from coordinator.masking.clipped import Clipped, share


def test_what_was_clipped_is_said_in_one_sentence_and_nothing_where_nothing_was() -> None:
    assert not Clipped(numbers=0.0, norms=0.0).sentence()
    assert Clipped(numbers=0.0125, norms=0.5, measures=0.1).sentence() == (
        "clipped: 1.25% of the numbers that were sent, at least, 50.00% of the answers' norms,"
        " 10.00% of what clients measured"
    )


def test_shares_are_no_more_than_all_whatever_a_client_tells() -> None:
    assert (share(1, 3), share(0, 0), share(7, 3)) == (0.333333, 0.0, 1.0)
