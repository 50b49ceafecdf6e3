"""The simulator's webhooks: signed as Twilio signs them, posted and repeated as Twilio does."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import pytest
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from gateway.simulator.__main__ import main
from gateway.simulator.arguments import BadArgument, parse_arguments
from gateway.simulator.config import Account, RingCentralAccount
from gateway.simulator.http_client import HttpClient
from gateway.simulator.process import CarrierFailed, carrier_process
from gateway.simulator.scripts import NAMED, Script
from gateway.simulator.server import listening, running_carrier
from gateway.simulator.twilio.signing import sign
from gateway.simulator.twilio.webhooks import Overrides, read_overrides
from gateway.simulator.wire import Receive, Scope, Send
from tests.contract.carrier_tools import FROM, OTHER, SID, TO, TOKEN, Api, Hook, Sink, config, running_sink

SERVICE = "MG" + "0b" * 16


def statuses(hooks: list[Hook]) -> list[str]:
    return [hook.form["MessageStatus"] for hook in hooks]


def signed(hook: Hook, url: str) -> bool:
    return bool(RequestValidator(TOKEN).validate(url, hook.form, hook.headers["x-twilio-signature"]))


def test_the_signature_is_twilios_own_example() -> None:
    fields = [
        ("CallSid", "CA1234567890ABCDE"), ("Caller", "+14158675310"), ("Digits", "1234"), ("From", "+14158675310"), ("To", "+18005551212"),
    ]  # fmt: skip
    url = "https://example.com/myapp.php?foo=1&bar=2"
    assert sign("12345", url, fields) == sign("12345", url, fields[::-1]) == "L/OH5YylLD5NRKLltdqwSvS0BnU="


def test_the_signature_of_repeated_names_agrees_with_the_sdk() -> None:
    fields = [("Media", "b"), ("Media", "a"), ("Media", "b"), ("Body", ""), ("To", "+1")]
    expected = RequestValidator(TOKEN).compute_signature("https://example.com/x", MultiDict(fields))
    assert sign(TOKEN, "https://example.com/x", fields) == expected


async def test_status_callbacks_tell_sent_and_delivered() -> None:
    async with running_sink() as sink, running_carrier(config(final_ms=30)) as carrier:
        url = f"{sink.url}/status/token?x=1"
        _, made = await Api(carrier.url).create(StatusCallback=url)
        hooks = await sink.wait(2)
        await carrier.quiet()
        assert statuses(hooks) == ["sent", "delivered"]
        assert hooks[1].path == "/status/token"
        assert hooks[1].form == {
            "SmsSid": made["sid"],
            "SmsStatus": "delivered",
            "MessageStatus": "delivered",
            "To": TO,
            "MessageSid": made["sid"],
            "AccountSid": SID,
            "ApiVersion": "2010-04-01",
            "From": FROM,
        }
        assert all(signed(hook, url) for hook in hooks)
        assert not signed(hooks[0], f"{sink.url}/status/token")
        assert hooks[0].headers["content-type"].startswith("application/x-www-form-urlencoded")
        assert [(one.status, one.http, one.attempts) for one in carrier.book.messages[made["sid"]].posted] == [
            ("sent", 200, 1), ("delivered", 200, 1),
        ]  # fmt: skip


async def test_a_callback_is_never_ahead_of_what_a_fetch_tells() -> None:
    async with running_sink() as sink, running_carrier(config(final_ms=20)) as carrier:
        api = Api(carrier.url)
        _, made = await api.create(StatusCallback=sink.url)
        await sink.wait(2)
        assert (await api.message("GET", made["sid"]))[1]["status"] == "delivered"


async def test_an_error_code_and_a_service_are_in_the_callback() -> None:
    account = {"services": {SERVICE: (FROM,)}, "status_callback": None}
    async with running_sink() as sink, running_carrier(config(account=account, scripts={TO: NAMED["filtered"]})) as carrier:
        await Api(carrier.url).create(MessagingServiceSid=SERVICE, StatusCallback=sink.url)
        hooks = await sink.wait(2)
        last = next(hook.form for hook in hooks if hook.form["MessageStatus"] == "undelivered")
        assert (last["ErrorCode"], last["MessagingServiceSid"], last["From"]) == ("30007", SERVICE, FROM)
        assert "ErrorCode" not in next(hook.form for hook in hooks if hook.form["MessageStatus"] == "sent")


@pytest.mark.parametrize("mode, expected", [("final", ["delivered"]), ("none", [])])
async def test_callback_modes(mode: str, expected: list[str]) -> None:
    async with running_sink() as sink, running_carrier(config(account={"callbacks": mode})) as carrier:
        carrier.accounts.change(SID, status_callback=sink.url)
        await Api(carrier.url).create()
        await carrier.quiet()
        assert statuses(sink.hooks) == expected


@pytest.mark.parametrize(
    "script, expected",
    [
        (NAMED["callbacks_lost"], []),
        (Script(callbacks="repeated", repeats=2, sent_ms=0, final_ms=30), ["sent"] * 3 + ["delivered"] * 3),
        (NAMED["callbacks_reversed"], ["delivered", "sent"]),
        (Script(callbacks="late", late_ms=100, sent_ms=0, final_ms=30), ["sent", "delivered"]),
        (Script(fate="failed", fate_code=30008), ["failed"]),
        (Script(answer="hang_after", times=1), ["sent", "delivered"]),
        (NAMED["hang_after_silent"], []),
        (NAMED["reset_after"], ["sent", "delivered"]),
        (NAMED["reset_before"], []),
    ],
)
async def test_what_becomes_of_callbacks(script: Script, expected: list[str]) -> None:
    async with running_sink() as sink, running_carrier(config(scripts={TO: script}, final_ms=30)) as carrier:
        create = asyncio.gather(Api(carrier.url, within=0.5).create(StatusCallback=sink.url), return_exceptions=True)
        await sink.wait(len(expected))
        await create
        await carrier.quiet()
        assert statuses(sink.hooks) == expected


async def test_late_callbacks_do_not_delay_the_state() -> None:
    script = Script(callbacks="late", late_ms=60_000)
    async with running_sink() as sink, running_carrier(config(scripts={TO: script})) as carrier:
        api = Api(carrier.url)
        _, made = await api.create(StatusCallback=sink.url)
        assert (await api.message("GET", made["sid"]))[1]["status"] == "delivered"
        assert not sink.hooks
        assert carrier.stats()["callbacks_waiting"] == 2
        carrier.reset()
        assert carrier.stats()["callbacks_waiting"] == 0


@pytest.mark.parametrize(
    "fragment, answers, attempts, http, failure",
    [
        ("", [500], 1, 500, None),  # a 5xx is not repeated unless that is asked for
        ("#rc=3&rp=5xx", [500, 503, 200], 3, 200, None),
        ("#rc=2&rp=all", [500, 404, 500, 200], 3, 500, None),
        ("#rc=3&rp=5xx", [404], 1, 404, None),
        ("#rc=3&rp=4xx,rt", [404, None, 200], 3, 200, None),
        ("", [None], 1, None, "read"),
        ("#rc=0&rp=all", [500], 1, 500, None),
    ],
)
async def test_connection_overrides(
    fragment: str, answers: list[int | None], attempts: int, http: int | None, failure: str | None
) -> None:
    account = {"callbacks": "final"}
    async with running_sink() as sink, running_carrier(config(account=account, callback_retry_ms=1)) as carrier:
        sink.answer = lambda number: answers[number - 1]
        _, made = await Api(carrier.url).create(StatusCallback=f"{sink.url}/x{fragment}")
        await carrier.quiet()
        (posted,) = carrier.book.messages[made["sid"]].posted
        assert (posted.attempts, posted.http, posted.failure) == (attempts, http, failure)
        assert len(sink.hooks) == attempts
        assert all(signed(hook, f"{sink.url}/x") for hook in sink.hooks), "the fragment stands outside the signature"
        assert len({hook.headers["i-twilio-idempotency-token"] for hook in sink.hooks}) == 1


async def test_a_failed_connection_is_tried_once_more() -> None:
    async with running_carrier(config(account={"callbacks": "final"}, callback_retry_ms=1)) as carrier:
        _, made = await Api(carrier.url).create(StatusCallback="http://127.0.0.1:1/nobody")
        await carrier.quiet()
        (posted,) = carrier.book.messages[made["sid"]].posted
        assert (posted.attempts, posted.http, posted.failure) == (2, None, "connect")
        assert carrier.book.counts["callbacks_failed"] == 1


async def test_a_web_server_that_does_not_answer_is_left_after_its_time() -> None:
    silence = asyncio.Event()

    class Silent(Sink):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await silence.wait()

    async with listening(Silent()) as url, running_carrier(config(account={"callbacks": "final"})) as carrier:
        began = time.monotonic()
        _, made = await Api(carrier.url).create(StatusCallback=f"{url}#rt=100")
        await carrier.quiet()
        assert carrier.book.messages[made["sid"]].posted[0].failure == "read"
        assert time.monotonic() - began < 5
        silence.set()


def test_overrides_are_read_within_their_limits() -> None:
    assert read_overrides("") == Overrides(1, frozenset({"ct"}), 5.0, 15.0, 15.0)
    assert read_overrides("rc=9&rp=all&ct=1&rt=99999&tt=x") == Overrides(5, frozenset({"all"}), 0.1, 15.0, 15.0)


async def test_webhooks_reach_a_private_address_signed_for_the_public_one() -> None:
    async with running_sink() as sink:
        public = "https://sms.example.com"
        async with running_carrier(config(reach=((public, sink.url),), account={"inbound_url": f"{public}/inbound"})) as carrier:
            result = await carrier.inbound(TO, FROM, "STOP")
            assert result.webhooks[0].http == 200
            assert sink.hooks[0].headers["host"] == "sms.example.com"
            assert sink.hooks[0].headers["x-forwarded-proto"] == "https"
            assert signed(sink.hooks[0], f"{public}/inbound")


async def test_many_callbacks_share_few_connections_and_none_is_lost() -> None:
    async with running_sink() as sink, running_carrier(config(callback_concurrency=4)) as carrier:
        api = Api(carrier.url)
        await asyncio.gather(*(api.create(body=str(place), StatusCallback=sink.url) for place in range(200)))
        await carrier.quiet()
        assert len(sink.hooks) == 400
        assert carrier.book.counts["callbacks"] == 400
        assert carrier.book.counts["callbacks_failed"] == 0


async def test_more_callbacks_than_may_wait_are_dropped_and_counted() -> None:
    async with running_carrier(config(max_callbacks_waiting=3, final_ms=60_000, sent_ms=60_000)) as carrier:
        for place in range(3):
            await Api(carrier.url).create(body=str(place), StatusCallback="http://127.0.0.1:1/x")
        assert carrier.stats()["callbacks_waiting"] == 3
        assert carrier.stats()["callbacks_dropped"] == 3


# -- inbound ------------------------------------------------------------------------------------------------------------------------


async def test_an_inbound_text_is_kept_and_posted_with_every_documented_parameter() -> None:
    async with running_sink() as sink:
        sink.body = b"<Response/>"
        account = {"inbound_url": f"{sink.url}/in", "services": {SERVICE: (FROM,)}}
        async with running_carrier(config(account=account)) as carrier:
            api = Api(carrier.url)
            status, result = await api.control("/inbound", {"from": TO, "to": FROM, "body": "STOP ✋", "opt_out_type": "STOP"})
            assert status == 200
            (webhook,) = result["webhooks"]
            assert (webhook["status"], webhook["attempts"], webhook["answer"]) == (200, 1, "<Response/>")
            assert 0 < webhook["ms"] < 5000
            (hook,) = sink.hooks
            assert signed(hook, f"{sink.url}/in")
            form = hook.form
            assert {name: form[name] for name in ("MessageSid", "SmsSid", "SmsMessageSid")} == dict.fromkeys(
                ("MessageSid", "SmsSid", "SmsMessageSid"), result["sid"]
            )
            wanted = {
                "AccountSid": SID, "MessagingServiceSid": SERVICE, "From": TO, "To": FROM, "Body": "STOP ✋", "NumMedia": "0",
                "NumSegments": "1", "SmsStatus": "received", "ApiVersion": "2010-04-01", "OptOutType": "STOP", "FromCountry": "US",
                "ToCountry": "US", "FromCity": "", "FromState": "", "FromZip": "", "ToCity": "", "ToState": "", "ToZip": "",
            }  # fmt: skip
            assert {name: form.get(name) for name in wanted} == wanted
            _, message = await api.message("GET", result["sid"])
            assert (message["direction"], message["status"], message["body"], message["messaging_service_sid"]) == (
                "inbound", "received", "STOP ✋", SERVICE,
            )  # fmt: skip
            _, book = await api.control("/book")
            assert [(one["sid"], one["webhooks"]) for one in book["inbound"]] == [(result["sid"], [200])]


async def test_a_lost_webhook_leaves_the_text_in_the_list_and_can_be_posted_later() -> None:
    async with running_sink() as sink, running_carrier(config(account={"inbound_url": sink.url})) as carrier:
        api = Api(carrier.url)
        _, lost = await api.control("/inbound", {"from": TO, "to": FROM, "body": "STOP", "deliver": False, "age": 3600})
        assert lost["webhooks"] == []
        assert not sink.hooks
        _, page = await api.list(To=FROM)
        assert [one["sid"] for one in page["messages"]] == [lost["sid"]]
        _, again = await api.control("/inbound", {"sid": lost["sid"], "repeat": 2})
        assert again["sid"] == lost["sid"]
        assert [hook.form["MessageSid"] for hook in sink.hooks] == [lost["sid"]] * 2


async def test_an_inbound_text_repeated_has_one_sid() -> None:
    async with running_sink() as sink, running_carrier(config(account={"inbound_urls": {FROM: sink.url}})) as carrier:
        result = await carrier.inbound(TO, FROM, "hello", repeat=3)
        assert [hook.form["MessageSid"] for hook in sink.hooks] == [result.sid] * 3
        assert carrier.book.counts["inbound"] == 1


async def test_an_inbound_webhook_that_fails_tells_so() -> None:
    async with running_sink() as sink, running_carrier(config(account={"inbound_url": f"{sink.url}#rc=1&rp=5xx"})) as carrier:
        sink.answer = lambda _: 503
        result = await carrier.inbound(TO, FROM, "STOP")
        assert (result.webhooks[0].http, result.webhooks[0].attempts) == (503, 2)


async def test_the_carriers_own_opt_outs_refuse_with_21610() -> None:
    async with running_carrier(config(account={"keeps_opt_outs": True})) as carrier:
        api = Api(carrier.url)
        await carrier.inbound(TO, FROM, "STOP", opt_out_type="STOP", deliver=False)
        assert (await api.create())[1]["code"] == 21610
        assert (await api.create(From="+12025550101"))[0] == 201
        await carrier.inbound(TO, FROM, "START", opt_out_type="START", deliver=False)
        assert (await api.create())[0] == 201


# -- as a process -------------------------------------------------------------------------------------------------------------------


async def test_it_runs_as_a_process_of_its_own_and_ends_on_sigterm() -> None:
    async with running_sink() as sink:
        arguments = [
            "--port", "0", "--seed", "1", "--account", f"{SID}:{TOKEN}", "--inbound-url", f"{sink.url}/in", "--callbacks", "final",
            "--script", f'{TO}={{"answer": "refuse", "code": 21614, "times": 1}}', "--final-ms", "0",
        ]  # fmt: skip
        async with carrier_process(arguments) as carrier:
            api = Api(carrier.url)
            assert (await api.create(StatusCallback=f"{sink.url}/status"))[1]["code"] == 21614
            assert (await api.create(StatusCallback=f"{sink.url}/status"))[0] == 201
            result = await carrier.post("/inbound", {"from": TO, "to": FROM, "body": "STOP"})
            assert result["webhooks"][0]["status"] == 200
            stats = await carrier.get("/stats?quiet=1")
            assert (stats["accepted"], stats["callbacks"]) == (1, 1)
            assert len((await carrier.book())["requests"]) == 2
            assert {hook.path for hook in sink.hooks} == {"/in", "/status"}
            with pytest.raises(CarrierFailed, match="no such name"):
                await carrier.post("/script", {"number": TO, "script": "what"})
            assert (await api.create(to="+13125550183"))[1]["code"] == 21610, "last digits are on for people who try it"
            assert await carrier.stop() == 0


async def test_a_process_that_does_not_start_says_so() -> None:
    with pytest.raises(CarrierFailed):
        async with carrier_process(["--account", "no token"]):
            pass


def test_an_inbound_url_is_for_all_accounts_or_for_one() -> None:
    arguments = ["--account", "AC1:a", "--account", "AC2:b", "--inbound-url", "AC2=http://b/?x=1", "--inbound-url", "http://all/"]
    parsed, host, port = parse_arguments(arguments)
    assert [account.inbound_url for account in parsed.accounts if isinstance(account, Account)] == [
        "http://all/",
        "http://b/?x=1",
    ]
    assert (host, port, parsed.suffixes) == ("127.0.0.1", 0, True)


def test_both_providers_have_their_accounts_in_one_carrier() -> None:
    arguments = ["--account", "AC1:a", "--ringcentral", "1:client:secret:jwt", "--callbacks", "final", "--rate", "Light=50"]
    parsed, _, _ = parse_arguments([*arguments, "--sms-sender", FROM, "--a2p-sender", TO, "--token-seconds", "60"])
    twilio, ringcentral = parsed.accounts
    assert isinstance(twilio, Account)
    assert ringcentral == RingCentralAccount(
        "1", "client", "secret", "jwt", senders=(FROM,), a2p_senders=(TO,), token_s=60, rates={"Light": 50}, callbacks="final"
    )


def test_numbers_are_for_the_first_account_at_ringcentral_or_for_the_one_that_is_named() -> None:
    arguments = ["--ringcentral", "1:client:secret:jwt", "--ringcentral", "2:other:secret:jwt"]
    parsed, _, _ = parse_arguments([*arguments, "--a2p-sender", FROM, "--a2p-sender", f"2={TO}"])
    assert [account.a2p_senders for account in parsed.accounts if isinstance(account, RingCentralAccount)] == [(FROM,), (TO,)]
    with pytest.raises(BadArgument, match="--a2p-sender names an account"):
        parse_arguments([*arguments, "--a2p-sender", f"3={TO}"])


async def test_the_control_api_tells_whom_either_provider_knows_as_opted_out() -> None:
    accounts = (
        Account(SID, TOKEN, keeps_opt_outs=True),
        RingCentralAccount("1", "client", "secret", "jwt", a2p_senders=(OTHER,)),
    )
    client = HttpClient(keep_body=None)
    async with running_sink() as sink, running_carrier(config(accounts=accounts)) as carrier:
        carrier.accounts.change(SID, inbound_url=sink.url)
        for sender in (FROM, OTHER):
            await carrier.inbound(TO, sender, "STOP", opt_out_type="STOP")
        told = await client.request("GET", f"{carrier.url}/_carrier/consents", {}, b"")
    client.close()
    twilio, ringcentral = ({"account": sid, "from": sender, "to": TO} for sid, sender in ((SID, FROM), ("1", OTHER)))
    assert json.loads(told.body) == {"opted_out": [twilio, ringcentral]}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--account", "x"],
        ["--account", "a:b", "--mix", "2=slow"],
        ["--account", "a:b", "--script", "+1={"],
        ["--ringcentral", "a:b:c"],
        ["--ringcentral", "a:b:c:d", "--rate", "Fast=1"],
        ["--ringcentral", "a:b:c:d", "--rate", "Light=many"],
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


async def test_an_address_in_use_is_exit_code_1() -> None:
    async with running_carrier(config()) as carrier:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.simulator", "--account", "a:b", "--port", carrier.url.rpartition(":")[2],
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"cannot listen" in errors
    assert errors.count(b"\n") == 1
