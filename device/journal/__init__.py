"""What is fsynced: every decision, in order, and what becomes of it."""
