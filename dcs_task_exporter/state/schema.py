"""The tables of the state file, and the way to them from each earlier version.

There is one row for each instance, and one for each task that is counted. The ids of the tasks have
a table of their own because only they are many: in the instance's row, a save of 5,000 ids wrote
618 kB, where it writes 10 kB now.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x44435354
"""The kind of file, in SQLite's header: "DCST"."""

VERSION: Final = 4
"""The version of the schema; a file of an earlier one is migrated when it is opened."""

CREATE: Final = """
    CREATE TABLE instance_state (
        instance_id TEXT PRIMARY KEY, saved_at_age REAL NOT NULL, refreshed_at REAL,
        state TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS counted (
        instance_id TEXT, task_id TEXT, started_at REAL, PRIMARY KEY (instance_id, task_id)
    ) WITHOUT ROWID;
"""
"""The statements that make the tables in a new file."""

MIGRATIONS: Final = (
    """
    ALTER TABLE instance ADD COLUMN saved_at_age REAL NOT NULL DEFAULT 0;
    ALTER TABLE instance ADD COLUMN listed_since REAL;
    """,
    """
    CREATE TABLE last_failed (
        instance_id TEXT, label TEXT, task_id TEXT, task_name TEXT, status TEXT,
        created_at REAL, updated_at REAL, error_code TEXT, details TEXT
    );
    """,
    f"""
    {CREATE}
    INSERT INTO instance_state SELECT id, saved_at_age, refreshed_at, json_object(
        'baseline_at', baseline_at, 'baseline_partial', baseline_partial,
        'forgotten_until', forgotten_until, 'listed_since', listed_since,
        'names', json_extract(labels, '$.names'), 'statuses', json_extract(labels, '$.statuses'),
        'counts', (
            SELECT json_group_array(json_array(task_name, status, counted)) FROM counter
            WHERE instance_id = id AND counted IS NOT NULL
        ),
        'shown', (
            SELECT json_group_array(json_array(task_name, status, shown)) FROM counter
            WHERE instance_id = id AND shown IS NOT NULL
        ),
        'unlisted', (
            SELECT json_group_array(task_id) FROM counted
            WHERE instance_id = id AND started_at = -9e999
        ),
        'active', (
            SELECT json_group_array(json_array(task_id, task_name, status, created_at, updated_at))
            FROM followed WHERE instance_id = id AND NOT missing
        ),
        'missing', (
            SELECT json_group_array(json_array(task_id, task_name, status, created_at, updated_at))
            FROM followed WHERE instance_id = id AND missing
        ),
        'last_success', (
            SELECT json_group_object(task_name, ended_at) FROM latest_end
            WHERE instance_id = id AND outcome = 'success'
        ),
        'last_failure', (
            SELECT json_group_object(task_name, ended_at) FROM latest_end
            WHERE instance_id = id AND outcome = 'failure'
        ),
        'failed', (
            SELECT json_group_object(label, json_array(
                task_id, task_name, status, created_at, updated_at, error_code, json(details)
            )) FROM last_failed WHERE instance_id = id
        )
    ) FROM instance;
    UPDATE counted SET started_at = 9e999 WHERE started_at = -9e999;
    DROP TABLE instance;
    DROP TABLE counter;
    DROP TABLE followed;
    DROP TABLE latest_end;
    DROP TABLE last_failed;
    """,  # noqa: S608 - of our own text
)
"""The statements that lead from version 1 to 2, from 2 to 3, and so on.

Until version 3 there was a table for each part of a state. The `counted` ids stay where they are;
those of `unlisted` had a negative time.
"""
