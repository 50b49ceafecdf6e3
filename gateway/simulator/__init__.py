"""A carrier to try the gateway against: a server that speaks Twilio's and RingCentral's APIs, misbehaves on request, and keeps its own book.

It is a server, not a provider: the gateway reaches it over HTTP alone, and the two share no code that either is tested by. It is
not for production: whoever can reach its listener from this machine controls it.
"""
