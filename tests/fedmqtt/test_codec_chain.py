"""A codec as it is written: what is understood, what is refused, and how either is said."""

import pytest

from fedmqtt import codec_chain
from fedmqtt.settings import SettingsError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("full", "full"),
        (" int8 + zstd ", "int8+zstd"),
        ("part(share=0.25)+eden+zstd", "part(share=0.25)+eden+zstd"),
        ("part( scaled = false , share=2.5e-1 )+int4", "part(share=0.25, scaled=false)+int4"),
        # What is so anyway is not said.
        ("part(share=0.25, scaled=true)+eden+zstd(level=3)", "part(share=0.25)+eden+zstd"),
        ("float16+zstd(level=19)", "float16+zstd(level=19)"),
        ("full()", "full"),
    ],
)
def test_one_chain_has_one_spelling(written: str, meant: str) -> None:
    assert codec_chain.read(written).text == meant
    assert codec_chain.read(meant) == codec_chain.read(written)


ALL = "bfloat16, eden, float16, full, int4, int8, lowrank, part, topk, zstd"
ORDER = (
    "has to be one of bfloat16, eden, float16, full, int4, int8; in front of it may stand lowrank,"
    " part, topk, behind it zstd, joined by +"
)
FORM = "; expected stages as in part(share=0.25)+eden+zstd"


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("gzip", f"codec: there is no 'gzip'; choose one of: {ALL}"),
        ("int8+gzip", f"codec: there is no 'gzip'; choose one of: {ALL}"),
        ("zstd", f"codec: 'zstd' {ORDER}"),
        ("zstd+int8", f"codec: 'zstd+int8' {ORDER}"),
        ("int8+eden", f"codec: 'int8+eden' {ORDER}"),
        ("eden+part(share=0.5)", f"codec: 'eden+part(share=0.5)' {ORDER}"),
        ("", f"codec: '' is not understood from character 1 on{FORM}"),
        ("eden+", f"codec: 'eden+' is not understood from character 6 on{FORM}"),
        ("eden zstd", f"codec: 'eden zstd' is not understood from character 1 on{FORM}"),
        ("../eden", f"codec: '../eden' is not understood from character 1 on{FORM}"),
        ("part(share=(1))+eden", "codec: 'part(share=(1))+eden' is not understood"),
        ("part+eden", "codec: part: missing key share (Of the numbers that are sent)"),
        ("lowrank+eden", "codec: lowrank: missing key rank (Columns of each factor)"),
        ("lowrank(rank=0)+int8", "codec: lowrank: rank: expected a"),
        ("lowrank(rank=1)+part(share=1)+int8", "codec: 'lowrank(rank=1)+part(share=1)+int8' has"),
        ("part(share=2)+eden", "codec: part: share: expected a number <= 1.0"),
        ("part(share=0)+eden", "codec: part: share: expected a number >= 0.001"),
        ("part(share=nan)+eden", "codec: part: share: expected a number"),
        ("part(share=half)+eden", "codec: part: 'half' is no number, true or false"),
        ("part(size=2)+eden", "codec: part: unknown key size; choose from: share, scaled"),
        ("part(share=0.1, share=1)+eden", "codec: part(share=0.1, share=1): expected part(name="),
        ("part(0.1)+eden", "codec: part(0.1): expected part(name=value, ...)"),
        ("eden(bits=2)", "codec: eden: unknown key bits"),
        ("zstd" * 60, "codec: 240 characters, more than 200"),
    ],
)
def test_a_mistake_is_told_with_the_choices(written: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        codec_chain.read(written)
    assert str(refused.value).startswith(complaint)
