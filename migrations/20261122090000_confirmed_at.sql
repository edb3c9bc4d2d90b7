-- When the broker confirmed the newest message, as long as nobody has claimed the notification since: then the message
-- is somewhere, and must not be published again while its queue has a backlog.
ALTER TABLE notification ADD COLUMN confirmed_at timestamptz;
