-- The newest occurrences of a schedule, and what of a process waits for a person. Both are written to only by what they are
-- about: requests that schedules have made, and notifications when they fail.
CREATE INDEX request_of_schedule ON request (source, id) WHERE source LIKE 'schedule:%';
CREATE INDEX notification_open_failure_process ON notification (process_id, id) WHERE open_failure_at IS NOT NULL;
