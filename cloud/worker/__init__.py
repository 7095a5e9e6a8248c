"""The MQTT edge: batches of requests in, signed replies out."""
