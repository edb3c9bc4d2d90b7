-- Keys of the HTTP API. Of a key only its hash is kept: it is 256 random bits, so nothing slower than SHA-256 is needed.
CREATE TABLE api_key (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The key's first part, by which it is found and named.
    prefix text NOT NULL UNIQUE,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    role text NOT NULL CHECK (role IN ('send', 'read', 'operate', 'admin')),
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    revoked_at timestamptz
);

-- Idempotency keys of senders. Each leads to the request that it made, for a day; after that it is free again.
CREATE TABLE idempotency_key (
    source text NOT NULL,
    key text NOT NULL,
    -- The request's message_id.
    message_id text NOT NULL,
    used_at timestamptz NOT NULL,
    PRIMARY KEY (source, key)
);

-- Every change that a person made. Nobody may change or delete a row.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    -- `key 1a2b3c4d (name)`, or `maria@host` at a terminal.
    actor text NOT NULL,
    -- What was done, such as `notification.retry`.
    action text NOT NULL,
    -- To what, such as `notification 17`.
    object text NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_object ON audit (object, id);

-- Somebody has decided that it is not to be tried again.
ALTER TABLE notification ADD COLUMN given_up boolean NOT NULL DEFAULT false;
-- When an operator last had it tried again: max-age counts from there.
ALTER TABLE notification ADD COLUMN retried_at timestamptz;
-- What waits for a person. A column of its own, since an index whose condition names `state` would make every claim
-- touch it.
ALTER TABLE notification ADD COLUMN open_failure_at timestamptz
    GENERATED ALWAYS AS (CASE WHEN state = 'failed' AND NOT given_up THEN finished_at END) STORED;
CREATE INDEX notification_open_failure ON notification (open_failure_at, id) WHERE open_failure_at IS NOT NULL;
-- What was done in a period.
CREATE INDEX notification_finished ON notification (finished_at, id) WHERE finished_at IS NOT NULL;
-- Was she called?
CREATE INDEX notification_content_address ON notification_content (address) WHERE address IS NOT NULL;
-- What was not accepted is rare, and looked for.
CREATE INDEX request_refused ON request (id) WHERE outcome <> 'accepted';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tocsin_api') THEN
        CREATE ROLE tocsin_api NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE EXCEPTION
        'role tocsin_api is missing and % may not make roles: have an administrator run postgres/roles.sql first',
        current_user;
END
$$;

GRANT USAGE ON SCHEMA public TO tocsin_api;
GRANT SELECT ON _sqlx_migrations TO tocsin_api;

-- Requests, as the bridge takes them.
GRANT SELECT, INSERT, UPDATE (run) ON process TO tocsin_api;
GRANT SELECT, INSERT ON request TO tocsin_api;
GRANT SELECT, INSERT, UPDATE (
    state, stop_requested, wake_at, finished_at, reason, attempts, returns, due_at, expires_at, confirmed_at, given_up,
    retried_at
) ON notification TO tocsin_api;
GRANT USAGE ON SEQUENCE notification_id_seq TO tocsin_api;
GRANT SELECT, INSERT, UPDATE (address, options) ON notification_content TO tocsin_api;
GRANT SELECT, INSERT, UPDATE (message_id, used_at) ON idempotency_key TO tocsin_api;

-- What people look at, and what they change.
GRANT SELECT ON attempt, dead_letter TO tocsin_api;
GRANT SELECT, INSERT, UPDATE (paused_by, reason), DELETE ON channel_pause TO tocsin_api;
GRANT SELECT, INSERT, UPDATE (value, updated_at) ON property TO tocsin_api;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON api_key TO tocsin_api;
GRANT SELECT, INSERT ON audit TO tocsin_api;

-- The command `tocsin` writes down what it changes too, and makes the first key.
GRANT INSERT ON audit TO tocsin_operator;
GRANT SELECT (id, prefix, name, role, created_at, created_by, revoked_at), INSERT, UPDATE (revoked_at) ON api_key
    TO tocsin_operator;
