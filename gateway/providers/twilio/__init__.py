"""Twilio. :mod:`gateway.providers.twilio.provider` has the class that fulfils the port; all else here serves it alone."""
