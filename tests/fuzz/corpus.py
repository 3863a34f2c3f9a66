"""What fuzzing begins with: valid bytes for each decoder, as made now and as were committed.

corpus/<decoder>/<n>.bin    its seeds when `make fuzz ARGS=--write-corpus` was last called
found/<decoder>/<what>.bin  what once broke it, tried in every test run
"""

from pathlib import Path

from tests.fuzz.decoder import Decoder

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(__file__).parent / "found"


def write(decoder: Decoder, folder: Path) -> int:
    """Its seeds take the place of what is there; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    seeds = decoder.seeds()
    for number, seed in enumerate(seeds):
        (folder / f"{number}.bin").write_bytes(seed)
    return len(seeds)


def found(decoder: Decoder) -> list[Path]:
    return sorted((FOUND / decoder.name).glob("*.bin"))
