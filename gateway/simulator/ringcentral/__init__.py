"""The carrier as RingCentral: tokens, single SMS and A2P batches, lists, consents, and webhook subscriptions."""
