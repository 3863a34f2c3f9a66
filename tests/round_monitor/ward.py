"""A federation of 46 devices in its 38th round, made up: what pictures of the dashboard show.

The same each time: chance comes from a seed, times from `NOW`.
"""

import math
import random

from fedmqtt.status_pages import (
    ClientsPage,
    CodecCount,
    CoordinatorPage,
    Figures,
    HistoryPage,
    ModelPage,
    PacePage,
    Page,
    ParticipationPage,
    Privacy,
    Quarantined,
    RoundLine,
    RoundPage,
    TrafficPage,
)
from fedmqtt.topics import ClientId, RoundId

FEDERATION = "ward-7"
NOW = "2026-03-01T10:19:20+00:00"
CLIENTS = [
    ClientId(f"{kind}-{number:02}")
    for kind, many in (("phone", 23), ("watch", 23))
    for number in range(1, many + 1)
]
AWAY = [CLIENTS[n] for n in (4, 17, 30, 34, 41)]
_ROUND = 38
_COHORT, _INVITED = 10, 13
_SHOWN = 60


def pages() -> dict[str, Page]:
    chance = random.Random(7)
    fates = {n: _fates(chance) for n in range(1, _ROUND)}
    lines = [_line(n, fates[n], chance) for n in range(1, _ROUND)]
    return {
        "coordinator": _coordinator(),
        "round": _round(chance),
        "pace": _pace(),
        "model": _model(lines),
        "history": HistoryPage(rounds=lines),
        "participation": _participation(fates),
        "clients": _clients(),
        "traffic": TrafficPage(bytes_received=61_482_113, bytes_published=7_219_004),
    }


def _fates(chance: random.Random) -> dict[ClientId, str]:
    invited = chance.sample(CLIENTS, _INVITED)
    fates = {}
    for place, client in enumerate(invited):
        fates[client] = "a" if place < _COHORT else "s"
        drawn = chance.random()
        if client in AWAY and drawn < 0.6:
            fates[client] = "d"
        elif drawn < 0.04:
            fates[client] = "n"
        elif drawn < 0.07 or (client == "watch-09" and drawn < 0.7):
            fates[client] = "r"
    return fates


def _line(number: int, fates: dict[ClientId, str], chance: random.Random) -> RoundLine:
    letters = list(fates.values())
    answered = letters.count("a")
    accuracy = 0.86 - 0.7 * math.exp(-number / 9) + chance.uniform(-0.012, 0.012)
    return RoundLine(
        round=RoundId(number),
        outcome="averaged",
        reason="cohort complete",
        invited=_INVITED,
        answered=answered,
        dropped=letters.count("d") + letters.count("n"),
        surplus=letters.count("s"),
        declined=letters.count("n"),
        rejected=letters.count("r"),
        duration_s=21 + chance.uniform(-4, 9),
        train_metrics={"loss": 0.24 + 1.5 * math.exp(-number / 8) + chance.uniform(-0.02, 0.02)},
        figures=_figures(accuracy) if number % 2 else None,
        codecs={
            "eden+zstd": CodecCount(updates=answered - 2, bytes=(answered - 2) * 41_200),
            "full": CodecCount(updates=2, bytes=2 * 162_500),
        },
        epsilon=round(0.31 * math.sqrt(number), 3),
    )


def _figures(accuracy: float) -> Figures:
    metrics = {"accuracy": accuracy, "macro_f1": accuracy - 0.06 * (1 - accuracy) - 0.02}
    return Figures(clients=12, samples=4_812, metrics=metrics)


def _coordinator() -> CoordinatorPage:
    return CoordinatorPage(
        state="collecting",
        says=f"round {_ROUND}: 6 of {_COHORT} answers from {_INVITED} invited",
        federation=FEDERATION,
        run="20260301-094500",
        task="phonewatch",
        program="0.1.0",
        since="2026-03-01T09:45:00+00:00",
        round=RoundId(_ROUND),
        rounds_wanted=60,
        clients_online=len(CLIENTS) - len(AWAY),
        clients_known=len(CLIENTS),
        late_updates=3,
        unreadable_messages=0,
        protocol="MQTT 5",
    )


def _round(chance: random.Random) -> RoundPage:
    invited = sorted(chance.sample([c for c in CLIENTS if c not in AWAY], _INVITED - 1))
    invited = sorted([*invited, AWAY[1]])
    here = [client for client in invited if client not in AWAY]
    return RoundPage(
        run="20260301-094500.7",
        round=RoundId(_ROUND),
        open=True,
        opened="2026-03-01T10:19:02+00:00",
        closes="2026-03-01T10:20:01+00:00",
        wanted=_COHORT,
        quorum=5,
        invited=invited,
        answered=here[:6],
        away=[AWAY[1]],
        declined={here[6]: "battery at 18%, and it does not charge"},
        rejected={here[7]: "update norm 41.2 above the limit 10"},
        evaluators=[],
        evaluated=[],
    )


def _pace() -> PacePage:
    return PacePage(
        round=RoundId(_ROUND),
        over_selection=1.3,
        over_selection_reason="invites 13 for 10: 82% of those invited answer",
        deadline_s=59.0,
        deadline_reason="closes after 59 s: 95% are expected to answer within 39 s",
    )


def _model(lines: list[RoundLine]) -> ModelPage:
    measured = [line for line in lines if line.figures is not None][-1]
    return ModelPage(
        digest="ab" * 32,
        size_bytes=167_432,
        delta_bytes=42_118,
        parameters=40_613,
        trained_rounds=_ROUND - 1,
        figures=measured.figures,
        figures_round=measured.round,
        privacy=Privacy(
            epsilon=1.89,
            delta=1e-5,
            epsilon_max=4.0,
            participations=15,
            participations_max=40,
            noise_multiplier=0.9,
            clip_norm=1.0,
        ),
    )


def _participation(fates: dict[int, dict[ClientId, str]]) -> ParticipationPage:
    shown = sorted(fates)[-_SHOWN:]
    return ParticipationPage(
        rounds=[RoundId(number) for number in shown],
        clients={
            client: "".join(fates[number].get(client, ".") for number in shown)
            for client in CLIENTS
        },
        clients_known=len(CLIENTS),
    )


def _clients() -> ClientsPage:
    return ClientsPage(
        online=[client for client in CLIENTS if client not in AWAY],
        away=AWAY,
        labels={client: client.partition("-")[0] for client in CLIENTS},
        label_counts={"phone": 23, "watch": 23},
        hindered={CLIENTS[2]: "not charging", CLIENTS[36]: "its owner allows 22:00 to 6:00 only"},
        quarantined={
            ClientId("watch-09"): Quarantined(
                until="2026-03-01T11:04:00+00:00", why="3 updates rejected within 10 rounds"
            )
        },
    )
