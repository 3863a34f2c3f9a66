"""Selection policies in the lab: they go by what the lab's clients really are."""

from collections import Counter
from pathlib import Path

import pytest

from coordinator import selection
from fedmqtt import parts
from fleet_sim.fleet import Fleet
from fleet_sim.lab import Lab
from tests.fleet_sim.lab_fleets import fleet, learning, names, protocol, samples

# They differ in speed by a factor of 20 or so; nothing else happens to them.
UNLIKE = "clients = 12\nhours_max = 10\n[device]\nms_per_sample = 100.0\nspread = 0.9\n"
ROUNDS = "count = 40\ncohort = 3\nquorum = 1\nclients_min = 12\ndeadline_s = 1000.0\n"


def of(
    folder: Path, policy: str, text: str = UNLIKE, rounds: str = ROUNDS, more: str = ""
) -> Fleet:
    return fleet(folder, text, rounds=rounds, federation=f'selection = "{policy}"\n{more}')


def answers(lab: Lab) -> Counter[str]:
    return Counter(str(client) for record in lab.records for client in record.answered)


@pytest.mark.parametrize("policy", parts.names(selection))
def test_every_policy_runs_and_is_the_same_for_a_seed_however_clients_are_simulated(
    policy: str, tmp_path: Path
) -> None:
    found = of(tmp_path, policy, UNLIKE + 'labels = "names"\n')
    crew = [f"{'phone' if n % 3 else 'watch'}-{n}" for n in range(12)]
    traces = []
    for sleeps in (True, False):
        lab = Lab(found, found.crew(crew), samples, None, sleeps=sleeps)
        lab.run()
        assert [record.outcome for record in lab.records] == ["averaged"] * 40
        traces.append((lab.trace, lab.broker.bytes_up))
        known = lab.server.disk.known
        assert known[max(known)].label in ("phone", "watch")
    assert traces[0] == traces[1]


def test_what_clients_report_is_known_of_those_that_answered(tmp_path: Path) -> None:
    with learning(of(tmp_path, "power_of_choice")) as lab:
        lab.run()
    turns = answers(lab)
    for client, known in lab.server.disk.known.items():
        assert known.answered == turns[client] > 0
        assert known.samples > 0 and known.loss is not None and known.loss > 0


def test_by_speed_the_fast_answer_most_and_rounds_are_short(tmp_path: Path) -> None:
    lasted, first = {}, {}
    for policy in ("uniform", "by_speed"):
        found = of(tmp_path, policy)
        lab = protocol(found)
        lab.run()
        lasted[policy] = sum(record.duration_s for record in lab.records)
        first[policy] = answers(lab)
        crew = found.crew(names(12))
        took_s = {
            one.client: one.hardware.train_s(100, 1) for one in map(crew.__getitem__, range(12))
        }
        fastest = sorted(took_s, key=took_s.__getitem__)[:3]
    turns = {policy: sum(first[policy][one] for one in fastest) for policy in first}
    assert turns["by_speed"] > 1.5 * turns["uniform"]
    assert lasted["by_speed"] < lasted["uniform"]


def test_in_turn_everybody_answers_as_often(tmp_path: Path) -> None:
    lab = protocol(of(tmp_path, "round_robin"))
    lab.run()
    # 120 answers of 12 clients.
    assert set(answers(lab).values()) == {10}


def test_evenly_two_watches_answer_as_often_as_ten_phones(tmp_path: Path) -> None:
    text = UNLIKE + 'labels = "names"\n'
    even = 'selection_settings = { shares = "even" }\n'
    found = of(tmp_path, "stratified", text, ROUNDS.replace("cohort = 3", "cohort = 4"), even)
    crew = [f"phone-{n}" for n in range(10)] + ["watch-1", "watch-2"]
    lab = Lab(found, found.crew(crew), samples, None)
    lab.run()
    turns = answers(lab)
    assert turns["watch-1"] == turns["watch-2"] == 40
    assert sum(turns.values()) == 160


def test_a_setting_that_the_policy_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"selection_settings\.speed.*choose from: explore"):
        of(tmp_path, "by_speed", more="selection_settings = { speed = 0.1 }\n")
