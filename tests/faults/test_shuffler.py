"""The disturbance of deliveries keeps to what MQTT promises, and is one."""

from random import Random

from tests.faults.shuffler import Shuffler

DUP = 0x08
PINGRESP = bytes([0xD0, 0])


def publish(topic: str, payload: bytes) -> bytes:
    name = topic.encode()
    rest = len(name).to_bytes(2) + name + b"\x00\x01" + payload
    assert len(rest) < 2**14
    length = (
        bytes([len(rest)]) if len(rest) < 128 else bytes([len(rest) & 127 | 128, len(rest) >> 7])
    )
    return bytes([0x32]) + length + rest


def delivered(shuffler: Shuffler, data: bytes) -> list[bytes]:
    """In the order in which they come, without the flag that says it is a copy."""
    disturbed = sorted(enumerate(shuffler(data)), key=lambda each: (each[1][0], each[0]))
    return [bytes([packet[0] & ~DUP]) + packet[1:] for _, (_, packet) in disturbed]


def test_each_message_comes_at_least_twice_and_other_packets_as_they_are() -> None:
    messages = [publish(f"update/{number}", bytes(300)) for number in range(50)]
    came = delivered(Shuffler(Random(1)), b"".join([*messages, PINGRESP]))
    assert set(came) == {*messages, PINGRESP}
    assert all(came.count(message) in (2, 3) for message in messages)
    assert came.count(PINGRESP) == 1


def test_topics_overtake_each_other() -> None:
    messages = [publish(f"update/{number}", b"x") for number in range(50)]
    came = delivered(Shuffler(Random(1)), b"".join(messages))
    firsts = list(dict.fromkeys(came))
    assert firsts != messages and sorted(firsts) == sorted(messages)


def test_within_a_topic_the_first_copies_are_in_order_and_the_newest_has_the_last_word() -> None:
    messages = [publish("offer", bytes([number])) for number in range(20)]
    for seed in range(20):
        came = delivered(Shuffler(Random(seed)), b"".join(messages))
        assert list(dict.fromkeys(came)) == messages
        assert came[-1] == messages[-1]


def test_packets_may_arrive_in_any_pieces() -> None:
    messages = [publish(f"update/{number}", bytes(200)) for number in range(5)]
    whole = b"".join(messages)
    shuffler = Shuffler(Random(1))
    came = [one for at in range(len(whole)) for one in delivered(shuffler, whole[at : at + 1])]
    assert set(came) == set(messages)
