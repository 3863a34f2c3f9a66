"""Sites: clients that stand for devices of their own, and answer with the sum of their changes.

    checks.py    what does not go together with sites, and why
    totals.py    a site's answer as the centre reads it: a sum of whole numbers, within bounds
    words.py     the same where answers are masked: what devices would mask, added up
    above.py     what a site's own coordinator is told by its upper half, and tells it

`site_aggregator/` is the program; docs/sites.md tells how to run one.
"""
