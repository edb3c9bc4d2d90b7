-- What waits for a person is written by the statements that say so: to compute it copied the busiest row at each update. The
-- constraint sees to it that none of them forgets, and is one instead of two.
ALTER TABLE notification ALTER COLUMN open_failure_at DROP EXPRESSION;
ALTER TABLE notification
    DROP CONSTRAINT notification_check,
    DROP CONSTRAINT notification_check1,
    ADD CONSTRAINT notification_state_says_the_rest CHECK (
        CASE
            WHEN state IN ('delivered', 'cancelled') THEN
                wake_at IS NULL AND finished_at IS NOT NULL AND open_failure_at IS NULL
            WHEN state = 'failed' THEN
                wake_at IS NULL AND finished_at IS NOT NULL AND (open_failure_at IS NULL) = given_up
            ELSE wake_at IS NOT NULL AND finished_at IS NULL AND open_failure_at IS NULL
        END
    );
GRANT UPDATE (open_failure_at) ON notification TO tocsin_activator, tocsin_notifier, tocsin_api;
