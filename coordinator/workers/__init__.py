"""Workers: programs beside the coordinator that receive, check and add up clients' answers.

    lanes.py         the coordinator's machine: whose lanes are whose, what was not handed over yet
    intake.py        a worker's machine: what it has asked about, what it adds up
    desk.py          the shell of the first: one of the coordinator's parts
    program.py       the shell of the second: `fedmqtt worker`
    namesake.py      what that makes of another worker of its name
    partial_sum.py   what a worker has added up, as it is handed over
    checks.py        what does not go together with workers, and why

ARCHITECTURE.md tells who remembers what, and what happens when one of them is killed.
"""
