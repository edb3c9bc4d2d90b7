-- Who is logged in at the dashboard. Of a session's token only its hash is kept, as of a key. It ends with its key.
CREATE TABLE session (
    hash bytea PRIMARY KEY,
    key_id bigint NOT NULL REFERENCES api_key (id),
    expires_at timestamptz NOT NULL
);
CREATE INDEX session_expires ON session (expires_at);

GRANT SELECT, INSERT, DELETE ON session TO tocsin_api;
