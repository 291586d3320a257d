import GRDB

/// The database's schema, by versions. `PRAGMA user_version` tells how far a file has come.
enum Schema {
    /// "loraq" in `PRAGMA application_id`: tells this file from any other SQLite database.
    static let applicationID: Int32 = 0x6C6F_7261

    /// One entry per version; each brings a file from the version before to its own.
    static let migrations = [version1, version2, version3, version4, version5]

    static let version5 = """
        -- What a task is told of a job before it: the metrics asked for (JSON list; NULL: nothing), and how that job ended.
        ALTER TABLE dependencies ADD COLUMN told TEXT;
        ALTER TABLE dependencies ADD COLUMN outcome_state TEXT;
        ALTER TABLE dependencies ADD COLUMN outcome_metrics TEXT;
        ALTER TABLE dependencies ADD COLUMN outcome_error TEXT;
        """

    static let version4 = """
        -- The plugin whose workers run the job; NULL: any that takes its kind unasked.
        ALTER TABLE jobs ADD COLUMN worker TEXT;
        """

    static let version3 = """
        -- Result lines whose files are not synced yet. A broker that starts writes them to their files again.
        CREATE TABLE kept_lines (
            number INTEGER PRIMARY KEY,
            job TEXT NOT NULL,                     -- id
            segment INTEGER NOT NULL,
            byte_offset INTEGER NOT NULL,
            bytes BLOB NOT NULL
        );
        """

    static let version2 = """
        -- The generation that last began with everything: what was done before it does not count.
        ALTER TABLE jobs ADD COLUMN whole_generation INTEGER NOT NULL DEFAULT 1 CHECK (whole_generation >= 1);
        """

    static let version1 = """
        -- Names and values of the store itself: epoch, tombstones_since.
        CREATE TABLE meta (
            name TEXT PRIMARY KEY NOT NULL,
            value INTEGER NOT NULL
        ) WITHOUT ROWID;

        -- One row per job, from its acceptance until it is pruned. Times end in _at and are milliseconds since 1970,
        -- for display only: nothing is decided by them but pruning.
        CREATE TABLE jobs (
            sequence INTEGER PRIMARY KEY,          -- order of acceptance
            id TEXT NOT NULL UNIQUE,               -- UUIDv7, chosen by the client
            kind TEXT NOT NULL,
            spec TEXT NOT NULL,                    -- JSON, as submitted
            digest TEXT NOT NULL,                  -- of kind, spec and inputs
            lines_blob TEXT,                       -- a batch: digest of its file; NULL: a job of one task
            priority INTEGER NOT NULL,
            tenant TEXT NOT NULL,
            label TEXT,
            maximum_seconds REAL,
            strict INTEGER NOT NULL,
            cost REAL NOT NULL,
            memory_bytes INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            -- What follows changes.
            state TEXT NOT NULL CHECK (state IN ('splitting', 'waiting', 'queued', 'running', 'held',
                'succeeded', 'failed', 'cancelled', 'skipped', 'dependency_failed')),
            held INTEGER NOT NULL,
            total INTEGER,                         -- tasks; NULL while the file is being split
            leased INTEGER NOT NULL,
            backoff INTEGER NOT NULL,
            done INTEGER NOT NULL,
            failed INTEGER NOT NULL,
            cancelled INTEGER NOT NULL,
            dead INTEGER NOT NULL,
            started_at INTEGER,
            finished_at INTEGER,
            generation INTEGER NOT NULL CHECK (generation >= 1),
            retry_scope TEXT,                      -- what the newest retry runs again: failed, all
            first_open_line INTEGER NOT NULL,      -- each line below has been given out or has ended
            result_count INTEGER NOT NULL,
            numerics TEXT,                         -- pinned by the first attempt
            any_numerics INTEGER NOT NULL,
            attempts INTEGER NOT NULL,             -- begun so far; jobs of one task only
            worked_ns INTEGER NOT NULL,
            error TEXT,                            -- JSON
            usage TEXT,                            -- JSON, sums by name
            metrics TEXT,                          -- JSON, numbers by name
            bad_lines INTEGER NOT NULL,            -- that no generation can run
            CHECK ((finished_at IS NOT NULL) =
                (state IN ('succeeded', 'failed', 'cancelled', 'skipped', 'dependency_failed'))),
            CHECK (state != 'running' OR started_at IS NOT NULL),
            CHECK (state != 'splitting' OR total IS NULL),
            CHECK (total IS NULL OR done + failed + cancelled + dead + leased + backoff <= total),
            CHECK (finished_at IS NULL OR leased + backoff = 0)
        );
        CREATE INDEX jobs_by_state ON jobs (state, sequence);
        CREATE INDEX jobs_by_label ON jobs (label, sequence) WHERE label IS NOT NULL;
        CREATE INDEX jobs_by_end ON jobs (finished_at) WHERE finished_at IS NOT NULL;

        CREATE TABLE job_inputs (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            position INTEGER NOT NULL,
            name TEXT NOT NULL,
            blob TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID;
        CREATE INDEX job_inputs_by_blob ON job_inputs (blob);

        -- The entries of a job's `after`.
        CREATE TABLE dependencies (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            position INTEGER NOT NULL,
            other TEXT NOT NULL,                   -- id; that job may be pruned already
            mode TEXT NOT NULL CHECK (mode IN ('success', 'finish')),
            metric TEXT,
            comparison TEXT,
            value REAL,
            fulfilled INTEGER NOT NULL,
            PRIMARY KEY (job, position),
            CHECK ((metric IS NULL) = (comparison IS NULL))
        ) WITHOUT ROWID;

        -- Artifacts that a job will make.
        CREATE TABLE products (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            position INTEGER NOT NULL,
            type TEXT NOT NULL,
            name TEXT NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID;

        -- Artifact references that a job names, and what each is bound to, once it is.
        CREATE TABLE bindings (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            reference TEXT NOT NULL,
            spec_position INTEGER,                 -- place in the spec's list; NULL: named by a line
            name TEXT,
            version INTEGER,
            PRIMARY KEY (job, reference),
            CHECK ((name IS NULL) = (version IS NULL))
        ) WITHOUT ROWID;

        -- Where each block of 1,000 lines begins in a batch's file.
        CREATE TABLE line_blocks (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            first_index INTEGER NOT NULL,
            byte_offset INTEGER NOT NULL,
            first_number INTEGER NOT NULL,
            count INTEGER NOT NULL,
            PRIMARY KEY (job, first_index)
        ) WITHOUT ROWID;

        -- Tasks that have been given out and have not ended. Lines that were never given out have no row (they follow from
        -- the job), and those that ended have a result instead.
        CREATE TABLE tasks (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            line INTEGER NOT NULL,                 -- index; 0 for a job of one task
            generation INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('ready', 'leased', 'backoff')),
            attempt INTEGER NOT NULL CHECK (attempt >= 1),
            lease TEXT,                            -- 32 hex digits
            worker TEXT,
            leased_at INTEGER,
            backoff_ms INTEGER,
            failures TEXT,                         -- JSON counts by class; NULL: none
            suspect INTEGER NOT NULL,              -- runs alone
            custom_id TEXT,
            cost REAL NOT NULL,
            byte_offset INTEGER,
            length INTEGER,
            number INTEGER,                        -- line number in the file, from 1
            refs TEXT,                             -- artifact references, one per line of text
            PRIMARY KEY (job, line),
            CHECK ((state = 'leased') = (lease IS NOT NULL)),
            CHECK ((state = 'leased') = (leased_at IS NOT NULL)),
            CHECK ((state = 'backoff') = (backoff_ms IS NOT NULL))
        ) WITHOUT ROWID;

        -- Attempts that ended and are worth remembering: all that failed, and those of jobs of one task.
        CREATE TABLE attempts (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            line INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            worker TEXT NOT NULL,
            pid INTEGER,
            leased_at INTEGER NOT NULL,
            ended_at INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            error TEXT,                            -- JSON
            companions INTEGER NOT NULL,           -- other tasks that the worker held when it died
            exit_status INTEGER,                   -- of the worker's process, where it ended
            exit_signal INTEGER,
            exit_peak_bytes INTEGER,
            exit_log TEXT,                         -- its last log lines; NULL: the process did not end
            PRIMARY KEY (job, line, attempt)
        ) WITHOUT ROWID;

        -- How tasks ended: at most one row per task and generation. The line itself lies in
        -- runs/<job>/results-<segment>.jsonl; where the broker ended the task, `error` tells why and there is no line.
        CREATE TABLE results (
            job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
            ord INTEGER NOT NULL,                  -- place in completion order, from 1
            line INTEGER NOT NULL,
            generation INTEGER NOT NULL,           -- 0: found bad when the file was split, for good
            state TEXT NOT NULL CHECK (state IN ('done', 'failed', 'cancelled', 'dead')),
            attempt INTEGER NOT NULL,
            worker TEXT,
            segment INTEGER,
            byte_offset INTEGER,
            length INTEGER,
            error TEXT,                            -- JSON
            custom_id TEXT,
            number INTEGER,                        -- line number in the file, from 1
            finished_at INTEGER NOT NULL,
            PRIMARY KEY (job, ord),
            CHECK ((segment IS NULL) = (byte_offset IS NULL) AND (segment IS NULL) = (length IS NULL)),
            CHECK (state = 'done' OR error IS NOT NULL)
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX results_by_line ON results (job, line, generation);
        CREATE INDEX results_with_errors ON results (job, ord) WHERE state != 'done';

        CREATE TABLE artifacts (
            name TEXT NOT NULL,                    -- M or M:A
            version INTEGER NOT NULL CHECK (version >= 1),
            type TEXT NOT NULL,
            digest TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            path TEXT NOT NULL,
            meta TEXT NOT NULL,                    -- the worker's own JSON
            created_at INTEGER NOT NULL,
            job TEXT,                              -- id of the job that made it
            parent_version INTEGER,                -- of M:A: the version of M that it belongs to
            PRIMARY KEY (name, version)
        );
        -- The highest version that each name ever had: none is used twice.
        CREATE TABLE artifact_names (
            name TEXT PRIMARY KEY NOT NULL,
            last_version INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE artifact_tags (
            name TEXT NOT NULL,
            tag TEXT NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (name, tag),
            FOREIGN KEY (name, version) REFERENCES artifacts ON DELETE CASCADE
        ) WITHOUT ROWID;
        CREATE INDEX artifact_tags_by_version ON artifact_tags (name, version);

        -- The newest events; the oldest are deleted as new ones come.
        CREATE TABLE events (
            number INTEGER PRIMARY KEY,
            type TEXT NOT NULL,
            at INTEGER NOT NULL,
            job TEXT,                              -- id
            task INTEGER,
            attempt INTEGER,
            worker TEXT,
            artifact TEXT,
            code TEXT,
            message TEXT
        );

        -- Worker processes that the supervisor started, for the next broker to adopt.
        CREATE TABLE processes (
            instance TEXT PRIMARY KEY NOT NULL,
            plugin TEXT NOT NULL,
            pid INTEGER NOT NULL,
            start_ticks INTEGER NOT NULL,
            log_path TEXT NOT NULL,
            started_at INTEGER NOT NULL
        ) WITHOUT ROWID;

        -- Whole blobs in blobs/; job_inputs tells who needs them.
        CREATE TABLE blobs (
            digest TEXT PRIMARY KEY NOT NULL,
            bytes INTEGER NOT NULL,
            stored_at INTEGER NOT NULL
        ) WITHOUT ROWID;

        -- Ids of pruned jobs: never run again.
        CREATE TABLE tombstones (
            id TEXT PRIMARY KEY NOT NULL,
            pruned_at INTEGER NOT NULL
        ) WITHOUT ROWID;
        """

    /// Brings the file up to this version, in one transaction per step.
    static func migrate(_ database: Database) throws {
        let version = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        guard version <= migrations.count else {
            throw StoreError(
                .newerSchema,
                "the database has schema \(version), this loraq knows \(migrations.count): use the newer one"
            )
        }
        let owner = try Int32.fetchOne(database, sql: "PRAGMA application_id") ?? 0
        let isEmpty = try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") == 0
        guard owner == applicationID || isEmpty else {
            throw StoreError(.cannotOpen, "this SQLite file is not loraq's")
        }
        for step in version..<migrations.count {
            try database.inTransaction(.immediate) {
                try database.execute(sql: migrations[step])
                try database.execute(sql: "PRAGMA application_id = \(applicationID)")
                try database.execute(sql: "PRAGMA user_version = \(step + 1)")
                return .commit
            }
        }
    }
}
