"""Brings certificates, revocation list and broker after what the database says of appliances."""
