"""Text messages: files in development, Aliyun with keys."""

import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from notification_service.channels.sms import AliyunSms, FileSms, judged, make_sms_provider
from notification_service.errors import PermanentFailure, TemporaryFailure
from tests.notification.stubs import serve


class TestDevelopmentProvider:
    def test_keeps_each_message_as_a_file(self, deliver, box, tmp_path):
        deliver("order.shipped")
        box.send(channel="sms")
        (row,) = box.rows(channel="sms")
        assert row.status == "sent"
        (path,) = (tmp_path / "sms").iterdir()
        kept = json.loads(path.read_text())
        assert path.name == f"{row.id}.json"
        assert kept["to"] == "+8613800138000"
        assert kept["body"] == "您的订单 0C073981 已由顺丰速运发出，运单号 SF1234567890。"

    def test_keeps_a_copy_in_the_same_file(self, tmp_path):
        provider, notification_id = FileSms(tmp_path), uuid4()
        for _ in range(2):
            provider.send(notification_id, "+8613800138000", "x")
        assert len(list(tmp_path.iterdir())) == 1

    def test_tries_again_when_the_folder_can_not_be_written(self, app, deliver, box, tmp_path):
        (tmp_path / "file").write_text("")
        tools = replace(app.extensions["tools"], sms=FileSms(tmp_path / "file" / "sms"))
        app.extensions["tools"] = tools
        deliver("order.shipped")
        box.send(channel="sms")
        (row,) = box.rows(channel="sms")
        assert row.status == "queued"
        assert row.last_error == "can't keep the message in SMS_DIR: Not a directory"

    def test_sends_what_was_written_by_hand(self, client, admin, box, tmp_path):
        body = {"to": "+447700900123", "body": "line one\nline two"}
        client.post("/api/v1/notifications/sms", json=body, headers=admin)
        box.send()
        (path,) = (tmp_path / "sms").iterdir()
        assert json.loads(path.read_text())["body"] == "line one\nline two"


class TestAliyun:
    @pytest.fixture
    def aliyun(self, settings):
        """Return a provider before a stub of Aliyun, the stub's requests, and the code that it answers."""
        asked, code = [], ["OK"]

        def answer(request):
            asked.append(request)
            return 200, {"Code": code[0], "Message": "a reason", "RequestId": "1", "BizId": "2"}

        keys = {
            "sms_provider": "aliyun",
            "aliyun_access_key_id": "id",
            "aliyun_access_key_secret": "secret",
            "aliyun_sms_sign_name": "商城",
            "aliyun_sms_template_code": "SMS_1",
        }
        with serve(answer) as url:
            yield AliyunSms(settings.model_copy(update=keys), url), asked, code

    def test_gets_the_message(self, aliyun):
        provider, asked, _ = aliyun
        notification_id = uuid4()
        provider.send(notification_id, "+8613800138000", "您的订单已发货")
        query = parse_qs(urlsplit(asked[0].path).query) | parse_qs(asked[0].body.decode())
        assert query["PhoneNumbers"] == ["13800138000"]
        assert query["SignName"] == ["商城"]
        assert query["TemplateCode"] == ["SMS_1"]
        assert query["OutId"] == [str(notification_id)]
        assert json.loads(query["TemplateParam"][0]) == {"content": "您的订单已发货"}

    def test_gets_a_foreign_number_with_its_country(self, aliyun):
        provider, asked, _ = aliyun
        provider.send(uuid4(), "+447700900123", "x")
        query = parse_qs(urlsplit(asked[0].path).query) | parse_qs(asked[0].body.decode())
        assert query["PhoneNumbers"] == ["447700900123"]

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("isv.MOBILE_NUMBER_ILLEGAL", PermanentFailure),
            ("isv.BUSINESS_LIMIT_CONTROL", TemporaryFailure),
            ("isv.AMOUNT_NOT_ENOUGH", TemporaryFailure),
            ("isp.SYSTEM_ERROR", TemporaryFailure),
        ],
    )
    def test_s_refusal_is_judged(self, aliyun, code, kind):
        provider, _, answered = aliyun
        answered[0] = code
        with pytest.raises(kind, match=f"Aliyun said {code}: a reason"):
            provider.send(uuid4(), "+8613800138000", "x")

    def test_that_is_away_is_tried_again(self, aliyun, settings):
        with pytest.raises(TemporaryFailure):
            AliyunSms(settings, "http://127.0.0.1:1").send(uuid4(), "+8613800138000", "x")

    def test_is_chosen_by_the_settings(self, settings):
        chosen = make_sms_provider(settings.model_copy(update={"sms_provider": "aliyun"}))
        assert isinstance(chosen, AliyunSms)
        assert isinstance(make_sms_provider(settings), FileSms)

    def test_s_throttling_passes(self):
        assert isinstance(judged("Throttling.User", ""), TemporaryFailure)
