"""Statistics of clients' data, without a model: a run whose model is questions, and whose next
model is better questions.

    first questions ──offer──▶ clients' sums ──exact sum──▶ findings, and narrower questions
          ▲                                                            │
          └──────────────── as often as `statistics.rounds` says ──────┘

Machine, ledger, receipts and checks are those of a training run. `fedmqtt/data_query.py` is what
both sides know of questions and sums.
"""
