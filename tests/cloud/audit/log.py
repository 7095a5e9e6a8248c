"""An audit log over a small event, and someone who writes into its database past every rule."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, text

from cloud.audit.kept import read_kept
from cloud.audit.sequencer import Drained
from cloud.audit.verify import Fault, Verdict, verify
from cloud.operations.proof.sequence_records import sequence_records
from cloud.store.tables import audit_leaves, audit_pending
from tests.cloud.floor import Floor, Guest, Till


class Log:
    def __init__(self, floor: Floor, checkpoint_file: Path) -> None:
        self.floor = floor
        self.checkpoint_file = checkpoint_file

    def sell(self, till: Till, guest: Guest, sales: int = 1) -> None:
        for _ in range(sales):
            self.floor.ask(till, till.deduct(self.floor.qr(guest)))

    def sequence(self) -> list[Drained]:
        """Until nothing is pending."""
        rounds: list[Drained] = []
        while True:
            done = sequence_records(
                self.floor.database, self.floor.keys, self.floor.now(), self.checkpoint_file
            )
            assert isinstance(done, Drained), done
            rounds.append(done)
            if not done.has_more:
                return rounds

    def verify(self, *kept: str) -> Verdict:
        return verify(self.floor.database, self.find_key, kept)

    def find_key(self, kid: str) -> Any:
        return self.floor.keys.find("checkpoint", kid)

    def faults(self, *kept: str) -> list[Fault]:
        return [each.fault for each in self.verify(*kept).findings]

    def kept(self) -> str:
        """The checkpoint that left the database."""
        standing = read_kept(self.checkpoint_file)
        assert standing is not None
        return standing[0]

    def count_leaves(self) -> int:
        return self._count(audit_leaves)

    def count_pending(self) -> int:
        return self._count(audit_pending)

    def _count(self, table: Any) -> int:
        with self.floor.database.reading() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    @contextmanager
    def superuser(self) -> Generator[Connection]:
        """Whoever owns the database: triggers, keys and rules are off while they write."""
        if self.floor.database.dialect == "sqlite":
            with self.floor.database.engine.connect() as connection:
                yield from self._past_sqlites_rules(connection)
            return
        with self.floor.database.transaction() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for rule in connection.execute(
                text(
                    "SELECT conrelid::regclass AS of, conname FROM pg_constraint"
                    " WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
                )
            ).all():
                connection.execute(text(f"ALTER TABLE {rule.of} DROP CONSTRAINT {rule.conname}"))
            yield connection

    def _past_sqlites_rules(self, connection: Connection) -> Generator[Connection]:
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("PRAGMA ignore_check_constraints = ON")
        try:
            with connection.begin():
                kept = connection.execute(
                    text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
                ).all()
                for trigger in kept:
                    connection.execute(text(f"DROP TRIGGER {trigger.name}"))
                yield connection
                for trigger in kept:
                    connection.execute(text(trigger.sql))
        finally:
            raw.execute("PRAGMA ignore_check_constraints = OFF")
            raw.execute("PRAGMA foreign_keys = ON")
