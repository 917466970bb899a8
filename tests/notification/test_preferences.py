"""Choosing which optional messages to get."""

import pytest

PATH = "/api/v1/notifications/preferences"
ALL = {"email": True, "sms": True, "push": True}


def test_everything_is_wanted_until_somebody_says_otherwise(client, bearer):
    assert client.get(PATH, headers=bearer()).get_json() == ALL


def test_a_choice_is_kept_for_its_user_alone(client, bearer):
    wanted = {"email": False, "sms": True, "push": False}
    assert client.put(PATH, json=wanted, headers=bearer(42)).get_json() == wanted
    assert client.get(PATH, headers=bearer(42)).get_json() == wanted
    assert client.get(PATH, headers=bearer(43)).get_json() == ALL


def test_a_choice_can_be_changed(client, bearer):
    client.put(PATH, json={**ALL, "email": False}, headers=bearer())
    client.put(PATH, json=ALL, headers=bearer())
    assert client.get(PATH, headers=bearer()).get_json() == ALL


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_choice_is_a_boolean(client, bearer, value):
    answer = client.put(PATH, json={**ALL, "sms": value}, headers=bearer())
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "sms"


def test_a_choice_names_every_channel(client, bearer):
    assert client.put(PATH, json={"email": True}, headers=bearer()).status_code == 422


def test_somebody_has_to_be_signed_in(client):
    assert client.get(PATH).status_code == 401
    assert client.put(PATH, json=ALL).status_code == 401
