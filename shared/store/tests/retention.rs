use std::time::Duration;

use store::DROPPED_AT_ONCE;
use testkit::{Database, wait_for};

use crate::{fresh, insert};

/// A notification that was finished so long ago, with a request as old, a content and an attempt.
async fn finished(database: &Database, process: &str, ago: &str) -> i64 {
    let values = format!("'delivered', now() - interval '{ago}', now()");
    let id = insert(database, process, "state, finished_at, expires_at", &values).await.0;
    database
        .execute(&format!(
            "UPDATE request SET process_id = n.process_id, received_at = now() - interval '{ago}'
                 FROM notification n JOIN notification_content c ON c.notification_id = n.id
                 WHERE n.id = {id} AND c.request_id = request.id;
             INSERT INTO attempt (notification_id, number, started_at, finished_at, outcome)
                 VALUES ({id}, 1, now(), now(), 'delivered')"
        ))
        .await;
    id
}

#[tokio::test]
async fn what_is_old_and_over_is_dropped_and_its_request_with_the_last_of_it() {
    let (database, store) = fresh().await;
    let old = finished(&database, "old", "91 days").await;
    finished(&database, "young", "89 days").await;
    // One of two notifications of an old request is not over.
    finished(&database, "half", "91 days").await;
    let more = "expires_at, state, wake_at";
    let waiting = insert(&database, "half", more, "now() + interval '1 day', 'scheduled', now()").await.0;
    let same = "UPDATE notification_content SET request_id = (
            SELECT min(request_id) FROM notification_content WHERE process_name = 'half'
        ) WHERE notification_id = $";
    database.execute(&same.replace('$', &waiting.to_string())).await;

    assert_eq!(store.notifications_drop(90).await.unwrap(), 2);
    assert_eq!(store.notifications_drop(90).await.unwrap(), 0);
    let left = format!("SELECT count(*) FROM notification WHERE id = {old}");
    assert_eq!(database.count(&left).await, 0);
    for (table, left) in [("notification_content", 2), ("attempt", 1)] {
        assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, left, "{table} of what is left");
    }
    assert_eq!(store.requests_drop(0, 90).await.unwrap(), (1, None));
    assert_eq!(store.requests_drop(0, 90).await.unwrap(), (0, None), "one has a notification that waits");
    let processes = "SELECT count(*) FROM process";
    assert_eq!(database.count(processes).await, 3, "processes stay");
}

#[tokio::test]
async fn a_request_is_known_for_15_days_however_soon_its_notifications_are_dropped() {
    let (database, store) = fresh().await;
    finished(&database, "14", "14 days").await;
    finished(&database, "16", "16 days").await;
    assert_eq!(store.notifications_drop(1).await.unwrap(), 2);
    assert_eq!(store.requests_drop(0, 1).await.unwrap(), (1, None));
    assert_eq!(database.count("SELECT count(*) FROM request").await, 1);
}

/// Without statistics, and among many that must not be looked at.
#[tokio::test]
async fn only_what_is_dropped_is_looked_at() {
    const MANY: i64 = 10_000;
    let (database, store) = fresh().await;
    for table in ["notification", "request", "attempt", "notification_content", "idempotency_key", "dead_letter"] {
        database.execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
    }
    let fill = |process: &str, count: i64, ago: &str, columns: &str, values: &str| {
        format!(
            "WITH p AS (INSERT INTO process (name, run) SELECT '{process}' || g, 1 FROM generate_series(1, {count}) g
                        RETURNING id),
                  r AS (INSERT INTO request (source, message_id, received_at, process_id, outcome, body)
                        SELECT 'test', '{process}' || id, now() - interval '{ago}', id, 'accepted', '' FROM p
                        RETURNING id, process_id),
                  n AS (INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, accepted_at,
                            expires_at, max_attempts, {columns})
                        SELECT process_id, 'main', 'phone', now(), now(), now(), now() + interval '1 day', 10, {values}
                        FROM r RETURNING id, process_id),
                  c AS (INSERT INTO notification_content (notification_id, request_id, run, process_name, options)
                        SELECT n.id, r.id, 1, '{process}', '{{}}' FROM n JOIN r USING (process_id))
             INSERT INTO attempt (notification_id, number, started_at, finished_at, outcome)
             SELECT id, 1, now(), now(), 'delivered' FROM n"
        )
    };
    let over = "state, finished_at";
    database.execute(&fill("old", 600, "91 days", over, "'delivered', now() - interval '91 days'")).await;
    database.execute(&fill("young", MANY, "1 day", over, "'delivered', now() - interval '1 day'")).await;
    database.execute(&fill("due", MANY, "1 day", "wake_at", "now()")).await;
    database
        .execute(&format!(
            "INSERT INTO idempotency_key SELECT 'api:1', g::text, '', now() FROM generate_series(1, {MANY}) g;
             INSERT INTO idempotency_key SELECT 'api:2', g::text, '', now() - interval '25 h' FROM generate_series(1, 9) g;
             INSERT INTO dead_letter (received_at, queue, reason, notification_ids, body)
                 SELECT now() - make_interval(days => CASE WHEN g < 10 THEN 91 ELSE 1 END), 'q', 'r', '{{}}', ''
                 FROM generate_series(1, {MANY}) g"
        ))
        .await;
    store.close().await;

    let store = store::Store::new(&database.url_for("activator"), "test", 1).unwrap();
    let mut dropped = vec![store.notifications_drop(90).await.unwrap(), store.notifications_drop(90).await.unwrap()];
    let (first, next) = store.requests_drop(0, 90).await.unwrap();
    let (second, end) = store.requests_drop(next.unwrap(), 90).await.unwrap();
    dropped.extend([first, second, store.dead_letters_drop(90).await.unwrap()]);
    dropped.extend([store.idempotency_keys_drop().await.unwrap(), store.sessions_drop().await.unwrap()]);
    assert_eq!((dropped, end), (vec![DROPPED_AT_ONCE, 100, DROPPED_AT_ONCE, 100, 9, 9, 0], None));
    store.close().await;

    // A connection counts what it has read when it ends. Filling the tables went by none of these.
    let deleted = "SELECT coalesce(sum(n_tup_del), 0)::bigint FROM pg_stat_user_tables";
    wait_for("what was dropped to be counted", Duration::from_secs(20), || async {
        (database.count(deleted).await >= 2_418).then_some(())
    })
    .await;
    let read = "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables)::bigint + sum(idx_tup_read)::bigint
        FROM pg_stat_user_indexes WHERE indexrelname IN ('notification_finished', 'notification_unfinished',
            'notification_wake', 'notification_open_failure', 'notification_content_request',
            'request_pkey', 'request_process', 'request_refused', 'dead_letter_pkey', 'idempotency_key_used')";
    let read = database.count(read).await;
    assert!(read < 6_000, "{read} entries were read to drop 2418 rows");
}
