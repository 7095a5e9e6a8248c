"""The cloud: verifies, deducts exactly once, answers with the balance."""
