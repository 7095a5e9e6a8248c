"""The fleet: claims, certificates that follow one another, what appliances say of themselves."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    pass
