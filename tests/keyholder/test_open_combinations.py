from tests.keyholder.open_combinations import Row, fewest


def test_of_one_list_its_sum_is_known_and_nothing_else() -> None:
    row = (1, 1, 1, 0)
    assert fewest([[row], [row], [row]], 4) == 3
    # A seed that was given away hides nothing, and the others do.
    assert fewest([[row], None, [row]], 4) == 3
    assert fewest([[row], [], None], 4) is None
    assert fewest([None, None, None], 4) == 1


def test_the_difference_of_two_lists_is_known_where_both_are_for_each_seed() -> None:
    both: list[Row] = [(1, 1, 1, 0), (1, 1, 1, 1)]
    assert fewest([both, both, both], 4) == 1
    assert fewest([both, both[:1], both], 4) == 3
    assert fewest([both, both[:1], both[1:]], 4) is None
    # In a roundabout way, too.
    ring: list[Row] = [(1, 1, 0), (0, 1, 1), (1, 0, 1)]
    assert fewest([ring], 3) == 1


def test_disjoint_lists_tell_of_no_fewer_than_the_shorter_one() -> None:
    assert fewest([[(1, 1, 1, 0, 0), (0, 0, 0, 1, 1)]], 5) == 2


def test_what_is_known_of_ones_own_answers_alone_is_nothing_new() -> None:
    both: list[Row] = [(1, 1, 1, 0), (1, 1, 1, 1)]
    assert fewest([both], 4, own=[3]) == 3
    # Of one's own and another's, the other's is known.
    assert fewest([[(1, 1, 0, 0), (1, 1, 1, 1)]], 4, own=[3]) == 2


def test_who_is_in_a_sum_by_an_odd_number_alone_is_known_by_the_lowest_bit() -> None:
    assert fewest([[(1, 8, 8, 8)]], 4) == 1
    assert fewest([[(1, 1, 8, 8)]], 4) == 2
    assert fewest([[(2, 2, 4, 4, 4)]], 5) == 2
    # 3 a + b and a + 3 b: their sum is four times that of a and b.
    assert fewest([[(3, 1), (1, 3)]], 2) == 1
    assert fewest([[(2, 2, 2)]], 3) == 3
