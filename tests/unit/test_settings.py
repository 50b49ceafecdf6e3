from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.domain.errors import SettingsError
from gateway.settings import Settings, TwilioSettings, document, example, load, read_allow_list

DOCS = Path(__file__).parents[2] / "docs"
SECRET = "hunter2-5f1d"
ACCOUNT = {
    "GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID": "AC" + "0" * 32,
    "GATEWAY_ACCOUNTS__MAIN__AUTH_TOKEN": SECRET,
    "GATEWAY_PUBLIC_URL": "https://sms.example.com/",
}


def refusal(environ: dict[str, str], config_file: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, config_file)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_at_all_is_enough_to_start_with() -> None:
    settings = load({})
    assert settings.database_url is None
    assert settings.kafka.servers is None
    assert settings.accounts == {}
    assert settings.dispatch.lease_seconds >= settings.dispatch.request_seconds + settings.dispatch.fuse_seconds + 1
    assert settings.dispatch.stop_wait_seconds > settings.dispatch.lease_seconds


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        'web_port = 1111\nadmin_port = 2222\n[kafka]\nservers = "a:1"\nclient_id = "file"\n[kafka.topics]\nstatus = "s"\n'
    )
    settings = load(
        {"GATEWAY_CONFIG_FILE": str(file), "GATEWAY_WEB_PORT": "3333", "GATEWAY_KAFKA__CLIENT_ID": "environment", "PATH": "x"}
    )
    assert (settings.web_port, settings.admin_port, settings.database_pool) == (3333, 2222, 10)
    assert (settings.kafka.servers, settings.kafka.client_id, settings.kafka.topics.status) == ("a:1", "environment", "s")


def test_the_argument_goes_before_the_variable_that_names_a_file(tmp_path: Path) -> None:
    first, second = tmp_path / "1.toml", tmp_path / "2.toml"
    first.write_text("web_port = 1")
    second.write_text("web_port = 2")
    assert load({"GATEWAY_CONFIG_FILE": str(first)}, second).web_port == 2


def test_an_account_comes_from_variables_and_from_the_file_together(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'public_url = "https://x.example"\n[accounts.eu-1]\naccount_sid = "AC{"1" * 32}"\n')
    settings = load({"GATEWAY_ACCOUNTS__EU-1__AUTH_TOKEN": SECRET}, file)
    account = settings.accounts["eu-1"]
    assert (account.provider, account.concurrency, account.per_second) == ("twilio", 100, None)
    assert isinstance(account, TwilioSettings)
    assert account.auth_token.get_secret_value() == SECRET
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


def test_settings_are_frozen_and_read_nothing_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WEB_PORT", "1")
    settings = Settings()
    assert settings.web_port == 8080
    with pytest.raises(ValidationError):
        settings.web_port = 2  # type: ignore[misc] # what mypy refuses must be refused when it runs, too


def test_the_public_url_has_no_slash_at_its_end() -> None:
    assert load(ACCOUNT).public_url == "https://sms.example.com"


@pytest.mark.parametrize(
    "environ,expected",
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/sms-gateway"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/sms-gateway"),
        ({"XDG_STATE_HOME": "", "HOME": ""}, ".gateway"),
        ({"GATEWAY_STATE_DIRECTORY": "/x", "HOME": "/h"}, "/x"),
    ],
)
def test_the_state_directory_is_the_users_unless_set(environ: dict[str, str], expected: str) -> None:
    settings = load(environ)
    assert settings.state_directory == Path(expected)
    assert settings.key_ring == Path(expected) / "keys"


@pytest.mark.parametrize(
    "environ,named",
    [
        ({"GATEWAY_WEB_PORT": SECRET}, "GATEWAY_WEB_PORT: "),
        ({"GATEWAY_WEB_PORT": "70000"}, "GATEWAY_WEB_PORT: "),
        ({"GATEWAY_DATABASE_URL": ""}, "GATEWAY_DATABASE_URL: must not be empty"),
        ({"GATEWAY_WEBPORT": SECRET}, "GATEWAY_WEBPORT is unknown (did you mean GATEWAY_WEB_PORT?)"),
        ({"gateway_nonsense": SECRET}, "GATEWAY_NONSENSE is unknown"),
        ({"GATEWAY_": SECRET}, "GATEWAY_ is unknown"),
        ({"GATEWAY_WEB_PORT__X": SECRET}, "GATEWAY_WEB_PORT__X is unknown"),
        ({"GATEWAY_KAFKA__TOPICS__OUT": SECRET}, "GATEWAY_KAFKA__TOPICS__OUT is unknown"),
        ({"GATEWAY_ACCOUNTS__A__TOKEN": SECRET}, "GATEWAY_ACCOUNTS__A__TOKEN is unknown"),
        ({"GATEWAY_SERVICE_HOST": "10.0.0.1"}, "turn service links off"),
        ({"GATEWAY_PORT_8080_TCP_ADDR": "10.0.0.1"}, "turn service links off"),
        ({"GATEWAY_KAFKA": SECRET}, "GATEWAY_KAFKA is not JSON"),
        ({"GATEWAY_KAFKA": "5"}, "GATEWAY_KAFKA: must be a section"),
        ({"GATEWAY_ACCOUNTS": "5"}, "GATEWAY_ACCOUNTS: must be a section"),
        ({"GATEWAY_KAFKA": f'{{"servers": "a:1", "secret": "{SECRET}"}}'}, "kafka.secret: is unknown"),
        ({"GATEWAY_KAFKA__SERVERS": SECRET}, "GATEWAY_KAFKA__SERVERS: must be host:port"),
        ({"GATEWAY_KAFKA__SERVERS": f"{SECRET}:99999"}, "GATEWAY_KAFKA__SERVERS: must be host:port"),
        ({"GATEWAY_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"}, "sasl_username and sasl_password"),
        ({"GATEWAY_KAFKA__TOPICS__STATUS": "sms.inbound.v1"}, "kafka.topics: two topics"),
        ({"GATEWAY_KAFKA__CA_FILE": f"/nowhere/{SECRET}"}, "GATEWAY_KAFKA__CA_FILE: "),
        ({"GATEWAY_ALLOW_LIST_FILE": f"/nowhere/{SECRET}"}, "GATEWAY_ALLOW_LIST_FILE: "),
        ({"GATEWAY_LOG_LEVEL": SECRET}, "GATEWAY_LOG_LEVEL: "),
        ({"GATEWAY_DRAIN_SECONDS": "nan"}, "GATEWAY_DRAIN_SECONDS: "),
        ({"GATEWAY_DRAIN_SECONDS": "3"}, "drain_seconds must be at least dispatch.request_seconds"),
        ({"GATEWAY_DISPATCH__LEASE_SECONDS": "9.9"}, "lease_seconds must be at least request_seconds + fuse_seconds + 1"),
        ({"GATEWAY_DISPATCH__STOP_WAIT_SECONDS": "10"}, "stop_wait_seconds must be more than lease_seconds"),
        ({"GATEWAY_DISPATCH__STOP_WAIT_SECONDS": "13"}, "GATEWAY_DISPATCH__STOP_WAIT_SECONDS: "),
        ({"GATEWAY_DISPATCH__BACKOFF_MOST_SECONDS": "0.5"}, "backoff_most_seconds must be at least backoff_first_seconds"),
        ({"GATEWAY_INTAKE__WAITING_LOW": "50000"}, "waiting_low must be less than waiting_high"),
        ({"GATEWAY_EVIDENCE__UNKNOWN_AFTER_SECONDS": "5"}, "list_after_seconds must be less than unknown_after_seconds"),
        ({"GATEWAY_ADMIN_PORT": "8080"}, "web_port and admin_port must differ"),
        ({"GATEWAY_ACCOUNTS__A__AUTH_TOKEN": ""}, "GATEWAY_ACCOUNTS__A__AUTH_TOKEN: must not be empty"),
        ({"GATEWAY_ACCOUNTS__A__AUTH_TOKEN": SECRET}, "accounts.a.account_sid is missing (set GATEWAY_ACCOUNTS__A__ACCOUNT_SID)"),
        (
            {"GATEWAY_ACCOUNTS__A__PROVIDER": "ringcentral"},
            "accounts.a.client_id is missing (set GATEWAY_ACCOUNTS__A__CLIENT_ID)",
        ),
        ({"GATEWAY_ACCOUNTS__A__PROVIDER": SECRET}, "accounts.a: provider must be one of twilio, ringcentral"),
        ({**ACCOUNT, "GATEWAY_ACCOUNTS__MAIN__CLIENT_ID": SECRET}, "GATEWAY_ACCOUNTS__MAIN__CLIENT_ID: is unknown"),
        ({"GATEWAY_ACCOUNTS__": SECRET}, "GATEWAY_ACCOUNTS__: "),
        ({**ACCOUNT, "GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID": SECRET}, "GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID: "),
        ({**ACCOUNT, "GATEWAY_PUBLIC_URL": f"ftp://{SECRET}"}, "GATEWAY_PUBLIC_URL: must be a URL"),
        ({**ACCOUNT, "GATEWAY_PUBLIC_URL": f"https://{SECRET}:port"}, "GATEWAY_PUBLIC_URL: must be a URL"),
        ({**ACCOUNT, "GATEWAY_PUBLIC_URL": f"https://user:{SECRET}@x"}, "GATEWAY_PUBLIC_URL: must be a URL without user"),
        ({**ACCOUNT, "GATEWAY_PUBLIC_URL": f"https://x?{SECRET}"}, "GATEWAY_PUBLIC_URL: must be a URL without user, query"),
        ({name: value for name, value in ACCOUNT.items() if name != "GATEWAY_PUBLIC_URL"}, "public_url is needed"),
        ({"GATEWAY_CONFIG_FILE": ""}, "GATEWAY_CONFIG_FILE is empty"),
        ({"GATEWAY_CONFIG_FILE": "/nowhere/gateway.toml"}, "/nowhere/gateway.toml is not there"),
    ],
)
def test_what_is_wrong_is_named_and_its_value_is_not_shown(environ: dict[str, str], named: str) -> None:
    text = refusal(environ)
    assert named in text
    assert SECRET not in text


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'web_prot = "{SECRET}"\nadmin_port = "{SECRET}"\n[kafka]\nservre = "{SECRET}"\n')
    text = refusal({"GATEWAY_WORKERS": "0", "GATEWAY_X": "y"}, file)
    for named in (
        f"web_prot in {file} is unknown (did you mean web_port?)",
        f"kafka.servre in {file} is unknown (did you mean kafka.servers?)",
        f"admin_port in {file}: ",
        "GATEWAY_WORKERS: ",
        "GATEWAY_X is unknown",
    ):
        assert named in text
    assert SECRET not in text


@pytest.mark.parametrize("content", [f'web_port = "{SECRET}', f"a = {SECRET}", f"{SECRET}", "a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(content)
    text = refusal({}, file)
    assert re.search(re.escape(str(file)) + r"(:\d)? is not TOML", text)
    assert SECRET not in text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path} can't be read" in refusal({}, tmp_path)
    (tmp_path / "latin").write_bytes(b'web_host = "\xe4"')
    assert "can't be read (UnicodeDecodeError)" in refusal({}, tmp_path / "latin")


@given(st.dictionaries(st.from_regex(r"GATEWAY_[A-Za-z_]{0,20}", fullmatch=True), st.text(min_size=8, max_size=20), max_size=4))
def test_no_environment_breaks_the_reading(environ: dict[str, str]) -> None:
    environ.pop("GATEWAY_CONFIG_FILE", None)
    try:
        load(environ)
    except SettingsError as fault:
        said = str(fault)
    else:
        said = "settings: "
    assert said.startswith("settings: ")


def test_the_page_is_made_from_the_model() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == document()


def test_every_setting_says_what_it_is_and_is_on_the_page() -> None:
    page = document()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"GATEWAY_{name.upper()}" in page


def test_the_example_is_toml_that_loads_as_it_is_and_with_every_line_taken_in(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(example())
    assert load({}, file) == load({})
    taken = re.sub(r"(?m)^# (\[[a-z.]+\]|[a-z_]+ = )", r"\1", example())
    for path in re.findall(r'"(/etc/[^"]+)"', taken):
        (tmp_path / Path(path).name).touch()
        taken = taken.replace(path, str(tmp_path / Path(path).name))
    taken = taken.replace('"PLAINTEXT"', '"SASL_SSL"')  # which the other Kafka settings need
    file.write_text(taken)
    settings = load({}, file)
    held = tomllib.loads(taken)
    assert set(held) == set(Settings.model_fields)
    assert settings.accounts["main"].per_second == 50.0


def test_the_allow_list_hides_its_numbers_and_names_the_wrong_line(tmp_path: Path) -> None:
    file = tmp_path / "allowed.txt"
    file.write_text("# staff\n+1 202 555 0123\n\n+12025550124  # phone on the desk\n")
    numbers = read_allow_list(file)
    assert {number.reveal() for number in numbers} == {"+12025550123", "+12025550124"}
    assert "2025550123" not in repr(numbers)
    file.write_text("+12025550123\n2025550124\n")
    with pytest.raises(SettingsError, match=r"allowed\.txt:2 is not a number") as caught:
        read_allow_list(file)
    assert "2025550124" not in str(caught.value)
    with pytest.raises(SettingsError, match="FileNotFoundError"):
        read_allow_list(tmp_path / "none")
