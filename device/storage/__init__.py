"""The image's data partition: grown, made once, opened and checked before anything needs it."""
