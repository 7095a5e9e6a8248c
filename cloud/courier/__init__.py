"""The courier: sends what the outbox holds and calls card providers, again until it is done."""
