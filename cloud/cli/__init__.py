"""What one types on the server itself: one file a group of commands."""
