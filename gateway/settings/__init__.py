"""The settings: read once from the environment and an optional TOML file, checked whole, frozen, and passed on as values."""

from gateway.settings.accounts import Account, AccountSettings, RingCentralSettings, TwilioSettings
from gateway.settings.allow_list import read_allow_list
from gateway.settings.document import document, example
from gateway.settings.loading import load
from gateway.settings.model import Settings
from gateway.settings.parts import Dispatch, Evidence, Intake, Kafka, Topics

__all__ = [
    "Account",
    "AccountSettings",
    "Dispatch",
    "Evidence",
    "Intake",
    "Kafka",
    "RingCentralSettings",
    "Settings",
    "Topics",
    "TwilioSettings",
    "document",
    "example",
    "load",
    "read_allow_list",
]
