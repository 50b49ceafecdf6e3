"""An event-driven privacy gateway for text messages."""
