-- Duties that one process at a time has. Who holds one writes only as long as `fence` is the number that it got: each new
-- holder gets a greater one.
CREATE TABLE lease (
    name text PRIMARY KEY,
    -- As its connections to the database are called: `program/version instance`.
    holder text NOT NULL,
    since timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    fence bigint NOT NULL
);

-- What starts processes again and again.
CREATE TABLE schedule (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation text NOT NULL DEFAULT 'main' CHECK (organisation ~ '^[a-z0-9-]{1,63}$'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    owner text,
    -- Whatever it is called elsewhere.
    external_id text,
    -- [{"cron": "0 9 * * MON-FRI", "time-zone": "Europe/Zagreb"}]
    lines jsonb NOT NULL,
    -- From here `@every` counts, and no occurrence is before it.
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    on_missed text NOT NULL CHECK (on_missed IN ('all', 'last', 'none')),
    missed_window_seconds bigint NOT NULL CHECK (missed_window_seconds > 0),
    overlap text NOT NULL CHECK (overlap IN ('allow', 'skip', 'stop')),
    -- A start as in a request, with templates in its texts.
    request jsonb NOT NULL,
    paused_at timestamptz,
    -- The next occurrence; nothing if it is paused, deleted or over.
    next_at timestamptz,
    -- The last occurrence that was looked at, and the process that the last one started.
    last_at timestamptz,
    last_process text,
    -- Changes with each change by a person: who has read an older one must read again.
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CHECK (next_at IS NULL OR paused_at IS NULL AND deleted_at IS NULL)
);
CREATE UNIQUE INDEX schedule_name ON schedule (organisation, name) WHERE deleted_at IS NULL;
CREATE INDEX schedule_next ON schedule (next_at, id) WHERE next_at IS NOT NULL;

GRANT SELECT ON lease, schedule TO tocsin_activator, tocsin_api;
GRANT INSERT, UPDATE (holder, since, expires_at, fence) ON lease TO tocsin_activator;
GRANT UPDATE (next_at, last_at, last_process) ON schedule TO tocsin_activator;
GRANT INSERT, UPDATE (
    name, owner, external_id, lines, starts_at, ends_at, on_missed, missed_window_seconds, overlap, request, paused_at,
    next_at, version, updated_at, deleted_at
) ON schedule TO tocsin_api;

-- The activator starts processes as the bridge does, and stops the one before where a schedule says so.
GRANT SELECT, INSERT, UPDATE (run) ON process TO tocsin_activator;
GRANT SELECT (id, source, message_id), INSERT ON request TO tocsin_activator;
GRANT INSERT, UPDATE (stop_requested) ON notification TO tocsin_activator;
GRANT USAGE ON SEQUENCE notification_id_seq TO tocsin_activator;
GRANT INSERT ON notification_content TO tocsin_activator;
