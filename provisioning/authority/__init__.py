"""The certificate authority: keys, certificates, revocation lists."""
