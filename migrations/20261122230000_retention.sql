-- What is over is dropped after a while, by the activator. Addresses and texts go with their notification.

-- To drop a request Postgres would look for its notifications, for each one, and there is no index for that: it would cost
-- every change of a notification a write more. The one statement that drops requests sees to it that they have none, and
-- the one that makes notifications makes them with their request.
ALTER TABLE notification DROP CONSTRAINT notification_request_id_fkey;

CREATE INDEX idempotency_key_used ON idempotency_key (used_at);

GRANT DELETE ON notification TO tocsin_activator;
GRANT SELECT (notification_id), DELETE ON attempt TO tocsin_activator;
GRANT SELECT (id, process_id, received_at), DELETE ON request TO tocsin_activator;
GRANT SELECT (id, received_at), DELETE ON dead_letter TO tocsin_activator;
GRANT SELECT (source, key, used_at), DELETE ON idempotency_key TO tocsin_activator;
GRANT SELECT (expires_at), DELETE ON session TO tocsin_activator;
