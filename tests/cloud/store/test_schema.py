from pathlib import Path

from alembic.script import ScriptDirectory

import cloud.store
from cloud.store.database import SCHEMA


def test_the_program_names_the_newest_migration() -> None:
    migrations = Path(cloud.store.__file__).parent / "migrations"
    assert ScriptDirectory(str(migrations)).get_heads() == [SCHEMA]
