"""The reference of the status pages is what the code says."""

import json

import jsonschema
import pytest

from tests import status_reference
from tests.status_reference import EXAMPLES, KINDS, PARTS, PARTS_BELOW, SCHEMAS, files


def test_the_reference_and_the_schemas_are_as_the_code_has_them() -> None:
    for path, text in files().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} is old: python -m tests.status_reference"
        )


@pytest.mark.parametrize("name", KINDS)
def test_every_field_is_described(name: str) -> None:
    made = status_reference.schema(KINDS[name])
    for struct, definition in made["$defs"].items():
        for field, told in definition["properties"].items():
            assert told["description"], f"{struct}.{field} has no docstring"


@pytest.mark.parametrize("name", KINDS)
def test_a_schema_tells_what_is_no_such_page(name: str) -> None:
    checker = jsonschema.Draft202012Validator(
        json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    )
    example = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    checker.validate(example)
    required = next(iter(KINDS[name].__struct_fields__))
    assert not checker.is_valid({**example, required: {"no": "such"}, "rounds": 3})
    assert not checker.is_valid([])


def test_an_example_of_a_part_fits_its_place_in_the_page() -> None:
    for name, parts in PARTS.items():
        checker = jsonschema.Draft202012Validator(
            json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
        )
        page = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
        for part in parts:
            assert page.get(part) is None, "else the page's own example shows it"
            path = EXAMPLES / PARTS_BELOW / f"{part}.json"
            example = json.loads(path.read_text(encoding="utf-8"))
            checker.validate({**page, part: example})
            assert not checker.is_valid({**page, part: {**example, "declared": "many"}})
