-- One index for both questions about a process: what of it is unfinished, and all that ever was. Of its own condition, so
-- that no statement about a process can be served by notification_wake: the planner can't be led to go through all that is
-- due for each process. And one index less to write to.
CREATE INDEX notification_process ON notification (process_id, finished_at);
DROP INDEX notification_unfinished;
DROP INDEX notification_request;
