"""The story, a chapter a file: intake, dispatch, stop, replies, receipts, rescue, evidence, relay; sweep only calls them."""
