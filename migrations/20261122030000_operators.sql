-- Channels that operators have paused; `all` stands for every one. Workers claim nothing of a channel that is here.
CREATE TABLE channel_pause (
    channel text PRIMARY KEY,
    paused_at timestamptz NOT NULL,
    -- Who, as they said it.
    paused_by text NOT NULL,
    reason text
);

-- A worker in dry run says what it would have sent, and calls nobody.
ALTER TABLE attempt DROP CONSTRAINT attempt_outcome_check;
ALTER TABLE attempt ADD CONSTRAINT attempt_outcome_check CHECK (
    outcome IN ('delivered', 'temporary', 'rate_limited', 'permanent', 'channel_down', 'unknown', 'dry_run')
);

-- What became of a process: its requests, and what they made. Both columns never change, so no update pays for these.
CREATE INDEX request_process ON request (process_id);
CREATE INDEX notification_request ON notification (request_id);
