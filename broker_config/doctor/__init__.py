"""Looks at a broker and an account before a federation depends on them: `fedmqtt doctor`.

    case.py         what is looked at: a broker, an account, and what a federation needs of both
    finding.py      what one check found: a line, what it means, and the line to change
    examination.py  the checks in order, each only where what it needs is there
    checks/         one file per check, found by its name
    report.py       findings as text for 80 columns, and as JSON

A check is a module with `NEEDS`, the names of checks that must have gone well, and
`check(case) -> Finding`; with `AFTER`, those that it merely comes after, and `SHOWS_DOTS` where it
may fail for a dot in a name. It raises nothing but what `mqtt_probe` raises, and `WitnessKeptOut`;
it leaves nothing on the broker, and it writes only where nobody listens (`case.py` says where).
"""
