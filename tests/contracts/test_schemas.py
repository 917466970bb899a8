"""The event schemas themselves: complete, valid, each with a sample that it accepts."""

import copy
import json
import re

import pytest
from jsonschema import Draft202012Validator

from tests.contracts.event_schemas import EVENT_TYPES, FOLDER, data_fields, examples, problems, validator

ENVELOPE = ["specversion", "id", "source", "type", "subject", "time", "sequence", "data"]
SECRET = re.compile(r"password|token|secret|hash", re.IGNORECASE)


def test_every_event_of_the_shop_has_a_schema():
    assert set(EVENT_TYPES) == {
        "user.registered",
        "user.updated",
        "user.email.change.requested",
        "user.recovery.requested",
        "product.created",
        "product.updated",
        "product.stock.updated",
        "order.created",
        "order.paid",
        "order.cancelled",
        "order.shipped",
        "order.completed",
        "order.refunded",
    }


@pytest.mark.parametrize(
    "path", sorted(FOLDER.rglob("*.json")), ids=lambda path: str(path.relative_to(FOLDER))
)
def test_a_schema_is_valid_json_schema(path):
    Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_its_samples_are_accepted(event_type):
    assert [problems(sample) for sample in examples(event_type)] == [[]]


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_sample_without_a_field_is_refused(event_type):
    sample = examples(event_type)[0]
    for field in ENVELOPE:
        broken = {key: value for key, value in sample.items() if key != field}
        assert list(validator(event_type).iter_errors(broken)), field
    for field in data_fields(event_type):
        broken = copy.deepcopy(sample)
        del broken["data"][field]
        assert problems(broken), field


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_no_event_holds_a_secret(event_type):
    assert not [name for name in examples(event_type)[0]["data"] if SECRET.search(name)]
