-- What each program may do: what its statements in shared/store need, and no more. Roles belong to the whole cluster;
-- postgres/roles.sql makes those that log in. A later migration grants what it adds.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['tocsin_bridge', 'tocsin_activator', 'tocsin_notifier', 'tocsin_operator'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = wanted);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION
            -- Another database of this cluster was quicker.
            WHEN duplicate_object OR unique_violation THEN NULL;
            -- All in the message, as not every client shows a hint.
            WHEN insufficient_privilege THEN RAISE EXCEPTION
                'role % is missing and % may not make roles: have an administrator run postgres/roles.sql first',
                wanted, current_user;
        END;
    END LOOP;
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO tocsin_bridge, tocsin_activator, tocsin_notifier, tocsin_operator;

-- Every program asks whether the schema is as new as itself.
GRANT SELECT ON _sqlx_migrations TO tocsin_bridge, tocsin_activator, tocsin_notifier, tocsin_operator;

-- Requests become notifications, which nobody else makes, and stops end them. It never reads again what they say.
GRANT SELECT, INSERT, UPDATE (run) ON process TO tocsin_bridge;
GRANT SELECT (id, source, message_id), INSERT ON request TO tocsin_bridge;
GRANT SELECT, INSERT, UPDATE (state, stop_requested, wake_at, finished_at, reason) ON notification TO tocsin_bridge;
GRANT USAGE ON SEQUENCE notification_id_seq TO tocsin_bridge;
GRANT INSERT ON notification_content TO tocsin_bridge;

-- It moves ids: whom they concern and what is said to them it can't read.
GRANT SELECT, UPDATE (state, attempts, returns, due_at, wake_at, confirmed_at, finished_at, reason) ON notification
    TO tocsin_activator;
GRANT INSERT ON attempt, dead_letter TO tocsin_activator;

GRANT SELECT, UPDATE (
    state, fence, attempts, returns, due_at, wake_at, confirmed_at, claimed_at, claimed_by, finished_at, reason
) ON notification TO tocsin_notifier;
GRANT SELECT ON notification_content, property, channel_pause TO tocsin_notifier;
GRANT SELECT (id, name) ON process TO tocsin_notifier;
GRANT SELECT (notification_id, number, outcome), INSERT, UPDATE (late_outcome, late_provider_id) ON attempt
    TO tocsin_notifier;

-- The command `tocsin`, but for its `migrate`, which takes the database's owner.
GRANT SELECT, INSERT, UPDATE (value, updated_at) ON property TO tocsin_operator;
GRANT SELECT, INSERT, UPDATE (paused_by, reason), DELETE ON channel_pause TO tocsin_operator;
GRANT SELECT ON process, notification, attempt TO tocsin_operator;
GRANT SELECT (id, process_id, outcome, reasons) ON request TO tocsin_operator;
