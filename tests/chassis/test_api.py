"""The edge checks in a fixed order and refuses in one form."""

import json
import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

Headers = Callable[..., dict[str, str]]


def test_a_route_for_users_refuses_a_stranger_before_it_reads_the_body(client: FlaskClient) -> None:
    answer = client.post("/api/v1/notes", data=b"{not json", content_type="text/plain")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json["code"] == "unauthorized"


def test_a_route_for_admins_refuses_a_customer(client: FlaskClient, bearer: Headers) -> None:
    assert client.delete("/api/v1/notes/1", headers=bearer()).status_code == 403
    assert client.delete("/api/v1/notes/1", headers=bearer(role="admin")).status_code == 204


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"", "application/json", 400, "invalid_json"),
        (b'{"text": NaN}', "application/json", 400, "invalid_json"),
        (b'{"text": "\xff"}', "application/json", 400, "invalid_json"),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
        (b'{"text": ' + b"9" * 5000 + b"}", "application/json", 400, "invalid_json"),
        (b'{"text": 1e9999999999999999999}', "application/json", 400, "invalid_json"),
        (b'{"text": "x"}', "text/plain", 415, "unsupported_media_type"),
        (b'{"text": "x"}', None, 415, "unsupported_media_type"),
        (b'{"text": "x"}', "application/merge-patch+json", 415, "unsupported_media_type"),
        (b'{"text": "' + b"x" * 1024 * 1024 + b'"}', "application/json", 413, "payload_too_large"),
    ],
)
def test_a_body_that_is_no_json_is_refused(
    client: FlaskClient, bearer: Headers, body: bytes, media_type: str | None, status: int, code: str
) -> None:
    answer = client.post("/api/v1/notes", data=body, content_type=media_type, headers=bearer())
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": 1}, "text"),
        ({"text": "x", "role": "admin"}, "role"),
        ({"text": "x", "tags": ["a", 5]}, "tags.1"),
        ({"text": "a\0b"}, "text"),
        ({"text": "\ud800"}, "text"),
        ([], "body"),
        (None, "body"),
    ],
)
def test_a_refused_field_is_named_and_its_value_never_repeated(
    client: FlaskClient, bearer: Headers, body: object, field: str
) -> None:
    sent = json.dumps(body)
    answer = client.post("/api/v1/notes", data=sent, content_type="application/json", headers=bearer())
    assert (answer.status_code, answer.json["code"]) == (422, "validation_error")
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert set(answer.json["errors"][0]) == {"field", "message"}


def test_a_refused_value_is_not_in_the_answer(client: FlaskClient, bearer: Headers) -> None:
    answer = client.post("/api/v1/notes", json={"text": "hunter2" * 20}, headers=bearer())
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


def test_a_bad_query_parameter_is_named_and_an_unknown_one_ignored(client: FlaskClient) -> None:
    answer = client.get("/api/v1/notes?limit=101")
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "query.limit")
    assert client.get("/api/v1/notes?whatever=1").status_code == 200
    assert client.get("/api/v1/notes?whatever=%00").status_code == 200
    assert client.get("/api/v1/notes?word=a%00b").json["errors"][0]["field"] == "query.word"


@pytest.mark.parametrize(
    "cursor", ["x", "%20", "W10", "WyItaWQiLCJ4Il0", "WyItaWQiLCI5OTk5OTk5OTk5OTk5OTk5OTk5OTkiXQ"]
)
def test_a_forged_cursor_is_refused(client: FlaskClient, cursor: str) -> None:
    answer = client.get(f"/api/v1/notes?cursor={cursor}")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize("path", ["abc", "0", "-1", "01", "9" * 30, "1/x"])
def test_an_id_that_can_not_be_is_as_unknown_as_any(client: FlaskClient, bearer: Headers, path: str) -> None:
    answer = client.get(f"/api/v1/notes/{path}", headers=bearer())
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_a_route_without_required_fields_takes_an_absent_body(client: FlaskClient) -> None:
    assert client.post("/api/v1/touch").json == {"note": None}
    assert client.post("/api/v1/touch", content_type="application/json").json == {"note": None}


def test_every_answer_carries_the_request_id(client: FlaskClient) -> None:
    for path in ("/api/v1/notes", "/api/v1/nothing", "/health", "/api/v1/notes/x"):
        answer = client.get(path, headers={"X-Request-ID": "from-the-client"})
        assert answer.headers["X-Request-ID"] == "from-the-client"
    assert client.get("/api/v1/nothing", headers={"X-Request-ID": "abc"}).json["request_id"] == "abc"


def test_a_bug_is_a_500_that_tells_nothing(client: FlaskClient, bearer: Headers) -> None:
    answer = client.post("/api/v1/notes", json={"text": "crash"}, headers=bearer())
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_a_wrong_method_says_which_are_right(client: FlaskClient) -> None:
    answer = client.patch("/api/v1/notes")
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].replace(" ", "").split(","))


def test_paging_walks_every_row_once(client: FlaskClient, bearer: Headers) -> None:
    made = [
        client.post("/api/v1/notes", json={"text": str(n)}, headers=bearer()).json["id"] for n in range(7)
    ]
    seen, cursor = [], ""
    while True:
        page = client.get(f"/api/v1/notes?limit=3{cursor}").json
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == sorted(made, reverse=True)


def test_requests_are_counted_by_route_not_by_path(client: FlaskClient, bearer: Headers) -> None:
    client.get("/api/v1/notes/12345", headers=bearer())
    text = client.get("/metrics").text
    assert 'http_requests_total{method="GET",route="/api/v1/notes/<id:note_id>",status="404"} 1.0' in text
    for name in (
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "http_request_duration_seconds",
    ):
        assert name in text
    assert 'db_connections{state="idle"}' in text
    assert "outbox_unsent 0.0" in text
    assert "outbox_lag_seconds 0.0" in text


def test_the_document_names_every_route_and_refusal(app: Flask, client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    rules = {re.sub(r"<(\w+:)?(\w+)>", r"{\2}", rule.rule) for rule in app.url_map.iter_rules()}
    assert set(document["paths"]) == rules
    assert set(document["paths"]["/health"]["get"]["responses"]) == {"200", "503"}
    assert document["openapi"].startswith("3.1")
    create = document["paths"]["/api/v1/notes"]["post"]
    assert set(create["responses"]) == {
        *("201", "400", "401", "409", "413", "415", "422", "429", "500", "503")
    }
    assert "text_refused" in create["responses"]["409"]["description"]
    assert create["requestBody"]["required"]
    assert {"Location", "Idempotent-Replayed"} <= set(create["responses"]["201"]["headers"])
    assert "WWW-Authenticate" in create["responses"]["401"]["headers"]
    assert "Retry-After" in create["responses"]["503"]["headers"]
    assert not document["paths"]["/api/v1/touch"]["post"]["requestBody"]["required"]


def test_a_raw_body_reaches_its_handler_byte_by_byte_and_is_validated_when_it_says_so(
    client: FlaskClient,
) -> None:
    answer = client.post("/api/v1/signed", data=b'  {"text": "x"}')
    assert (answer.status_code, answer.json) == (200, {"text": "x", "tags": []})
    for body, status, code in [
        (b'{"text": "x"}', 409, "text_refused"),
        (b"  {", 400, "invalid_json"),
        (b'  {"text": 1}', 422, "validation_error"),
        (b"x" * (1024 * 1024 + 1), 413, "payload_too_large"),
    ]:
        answer = client.post("/api/v1/signed", data=body)
        assert (answer.status_code, answer.json["code"]) == (status, code)


def test_the_document_tells_what_a_raw_body_holds(client: FlaskClient) -> None:
    signed = client.get("/openapi.json").json["paths"]["/api/v1/signed"]["post"]
    schema = signed["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/NoteIn"}
    assert [parameter["name"] for parameter in signed["parameters"]] == ["X-Signature"]
    assert {"400", "413", "422"} <= set(signed["responses"])
    assert "415" not in signed["responses"]
