"""Who signs in, and as what: attendees, console users, programs."""
