"""The carrier as Twilio: its Messages API, and its webhooks."""
