"""People at the console decide: refunds, adjustments, approvals, the review list."""
