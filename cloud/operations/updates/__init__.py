"""Images for appliances: stored, released to a channel, announced, watched, paused."""
