//! What the database users of the programs may and may not do. The rest of the suite proves that their rights suffice,
//! since it runs every program as its own user.

use std::collections::BTreeSet;

use testkit::{Arena, Database};

use crate::programs;

/// Every right that a group has in a migrated database: on whole tables and sequences, or on some columns.
const RIGHTS: &[(&str, &[&str])] = &[
    (
        "bridge",
        &[
            "_sqlx_migrations SELECT",
            "notification INSERT",
            "notification SELECT",
            "notification UPDATE (finished_at, reason, state, stop_requested, wake_at)",
            "notification_content INSERT",
            "notification_id_seq USAGE",
            "process INSERT",
            "process SELECT",
            "process UPDATE (run)",
            "request INSERT",
            "request SELECT (id, message_id, source)",
        ],
    ),
    (
        "activator",
        &[
            "_sqlx_migrations SELECT",
            "attempt DELETE",
            "attempt INSERT",
            "attempt SELECT (notification_id)",
            "dead_letter DELETE",
            "dead_letter INSERT",
            "dead_letter SELECT (id, received_at)",
            "idempotency_key DELETE",
            "idempotency_key SELECT (key, source, used_at)",
            "lease INSERT",
            "lease SELECT",
            "lease UPDATE (expires_at, fence, holder, since)",
            "notification DELETE",
            "notification INSERT",
            "notification SELECT",
            "notification UPDATE (attempts, busy_until, confirmed_at, due_at, finished_at, open_failure_at, reason, returns, \
             state, stop_requested, wake_at)",
            "notification_content DELETE",
            "notification_content INSERT",
            "notification_content SELECT (notification_id, request_id)",
            "notification_id_seq USAGE",
            "process INSERT",
            "process SELECT",
            "process UPDATE (run)",
            "request DELETE",
            "request INSERT",
            "request SELECT (id, message_id, process_id, received_at, source)",
            "schedule SELECT",
            "schedule UPDATE (last_at, last_process, next_at)",
            "session DELETE",
            "session SELECT (expires_at)",
        ],
    ),
    (
        "api",
        &[
            "_sqlx_migrations SELECT",
            "api_key INSERT",
            "api_key SELECT",
            "api_key UPDATE (revoked_at)",
            "attempt SELECT",
            "audit INSERT",
            "audit SELECT",
            "channel_pause DELETE",
            "channel_pause INSERT",
            "channel_pause SELECT",
            "channel_pause UPDATE (paused_by, reason)",
            "dead_letter SELECT",
            "idempotency_key INSERT",
            "idempotency_key SELECT",
            "idempotency_key UPDATE (message_id, used_at)",
            "lease SELECT",
            "notification INSERT",
            "notification SELECT",
            "notification UPDATE (attempts, busy_until, confirmed_at, due_at, expires_at, finished_at, given_up, \
             open_failure_at, reason, refusals, retried_at, returns, state, stop_requested, wake_at)",
            "notification_content INSERT",
            "notification_content SELECT",
            "notification_content UPDATE (address, options)",
            "notification_id_seq USAGE",
            "process INSERT",
            "process SELECT",
            "process UPDATE (run)",
            "property INSERT",
            "property SELECT",
            "property UPDATE (updated_at, value)",
            "request INSERT",
            "request SELECT",
            "schedule INSERT",
            "schedule SELECT",
            "schedule UPDATE (deleted_at, ends_at, external_id, lines, missed_window_seconds, name, next_at, on_missed, \
             overlap, owner, paused_at, request, starts_at, updated_at, version)",
            "session DELETE",
            "session INSERT",
            "session SELECT",
        ],
    ),
    (
        "notifier",
        &[
            "_sqlx_migrations SELECT",
            "attempt INSERT",
            "attempt SELECT (notification_id, number, outcome)",
            "attempt UPDATE (late_outcome, late_provider_id)",
            "channel_pause SELECT",
            "notification SELECT",
            "notification UPDATE (attempts, busy_until, claimed_at, claimed_by, confirmed_at, due_at, fence, finished_at, \
             open_failure_at, reason, refusals, returns, state, wake_at)",
            "notification_content SELECT",
            "property SELECT",
        ],
    ),
    (
        "operator",
        &[
            "_sqlx_migrations SELECT",
            "api_key INSERT",
            "api_key SELECT (created_at, created_by, id, name, prefix, revoked_at, role)",
            "api_key UPDATE (revoked_at)",
            "attempt SELECT",
            "audit INSERT",
            "channel_pause DELETE",
            "channel_pause INSERT",
            "channel_pause SELECT",
            "channel_pause UPDATE (paused_by, reason)",
            "notification SELECT",
            "notification_content SELECT (notification_id, request_id)",
            "process SELECT",
            "property INSERT",
            "property SELECT",
            "property UPDATE (updated_at, value)",
            "request SELECT (id, outcome, process_id, reasons)",
        ],
    ),
];

/// All that has an owner and holds or changes data, with every right on it.
const HELD: &str = "
WITH relation AS (
    SELECT c.oid, c.relname, c.relkind FROM pg_class c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
), whole AS (
    SELECT relname || ' ' || privilege AS held
    FROM relation, unnest(
        ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']
            || CASE WHEN current_setting('server_version_num')::int >= 170000 THEN ARRAY['MAINTAIN'] END
    ) AS privilege
    WHERE relkind <> 'S' AND has_table_privilege(current_user, oid, privilege)
), columns AS (
    SELECT relname || ' ' || privilege || ' (' || string_agg(attname, ', ' ORDER BY attname) || ')' AS held
    FROM relation
    JOIN pg_attribute ON attrelid = oid AND attnum > 0 AND NOT attisdropped
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS privilege
    WHERE relkind <> 'S' AND has_column_privilege(current_user, oid, attnum, privilege)
        AND NOT has_table_privilege(current_user, oid, privilege)
    GROUP BY relname, privilege
), sequences AS (
    SELECT relname || ' ' || privilege FROM relation, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS privilege
    WHERE relkind = 'S' AND has_sequence_privilege(current_user, oid, privilege)
), places AS (
    SELECT 'schema ' || nspname || ' CREATE' FROM pg_namespace WHERE has_schema_privilege(current_user, oid, 'CREATE')
    UNION ALL
    SELECT 'database ' || privilege FROM unnest(ARRAY['CREATE', 'TEMPORARY']) AS privilege
    WHERE has_database_privilege(current_user, current_database(), privilege)
), powers AS (
    SELECT 'member of ' || rolname FROM pg_roles
    WHERE pg_has_role(current_user, oid, 'MEMBER') AND rolname NOT IN (current_user, 'its_group')
    UNION ALL
    SELECT 'special power' FROM pg_roles
    WHERE rolname = current_user AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
)
SELECT * FROM whole UNION ALL SELECT * FROM columns UNION ALL SELECT * FROM sequences UNION ALL SELECT * FROM places
UNION ALL SELECT * FROM powers";

fn group(program: &str) -> &str {
    match program {
        "tocsin" => "operator",
        _ if program.starts_with("notifier-") => "notifier",
        _ => program,
    }
}

/// Not made from the tests' template, which would not have the rights on the database itself.
async fn migrated(arena: &Arena) -> Database {
    let database = arena.database.create_empty().await;
    let migrate = arena.run_with("tocsin", &["migrate"], &[("TOCSIN_DATABASE__URL", database.url())]).await;
    assert!(migrate.status.success(), "{migrate:?}");
    database
}

#[tokio::test]
async fn each_program_has_the_rights_that_it_needs_and_no_other() {
    let arena = Arena::new().await;
    let database = migrated(&arena).await;
    for program in programs().into_iter().chain(["tocsin".to_owned()]) {
        let group = group(&program);
        let held = database.seen_by(&program).texts(&HELD.replace("its_group", &format!("tocsin_{group}"))).await;
        let held: BTreeSet<&str> = held.iter().map(String::as_str).collect();
        let (_, expected) = RIGHTS.iter().find(|(name, _)| *name == group).unwrap();
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        let too_many: Vec<_> = held.difference(&expected).collect();
        let missing: Vec<_> = expected.difference(&held).collect();
        assert!(too_many.is_empty() && missing.is_empty(), "{program}: too many {too_many:?}, missing {missing:?}");
    }
}

#[tokio::test]
async fn only_the_programs_have_such_rights() {
    let arena = Arena::new().await;
    let members = "SELECT m.member::regrole::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                   WHERE r.rolname IN ('tocsin_bridge', 'tocsin_activator', 'tocsin_api', 'tocsin_notifier', 'tocsin_operator')";
    let mut members: Vec<_> = arena.database.texts(members).await.iter().map(|name| name.replace('"', "")).collect();
    let mut expected: Vec<_> = programs().into_iter().chain(["operator".to_owned()]).collect();
    members.sort_unstable();
    expected.sort_unstable();
    assert_eq!(members, expected, "postgres/roles.sql makes one user a program");
}

#[tokio::test]
async fn what_a_taken_over_program_would_try_is_refused() {
    let arena = Arena::new().await;
    let database = migrated(&arena).await;
    let everybody: Vec<_> = programs().into_iter().chain(["tocsin".to_owned()]).collect();
    for program in &everybody {
        let mut attempts = vec![
            "TRUNCATE attempt",
            "DELETE FROM process",
            "UPDATE audit SET actor = 'nobody'",
            "DELETE FROM audit",
            "TRUNCATE audit",
            "UPDATE request SET outcome = 'accepted'",
            "UPDATE api_key SET role = 'admin'",
            "DELETE FROM api_key",
            "DELETE FROM schedule",
            "DELETE FROM lease",
            "UPDATE attempt SET outcome = 'delivered'",
            "UPDATE notification SET max_attempts = 100",
            "DROP TABLE attempt",
            "ALTER TABLE notification ADD COLUMN more text",
            "CREATE TABLE mine (id int)",
            "CREATE TEMPORARY TABLE mine (id int)",
            "CREATE SCHEMA mine",
            "CREATE OR REPLACE FUNCTION tocsin_now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
            "SET ROLE tocsin",
            "CREATE ROLE mine",
            "COPY (SELECT 1) TO PROGRAM 'cat'",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT passwd FROM pg_shadow",
        ];
        let group = group(program);
        if group != "activator" {
            attempts.extend(["DELETE FROM notification", "DELETE FROM notification_content"]);
            attempts.extend(["DELETE FROM attempt", "DELETE FROM request"]);
        }
        if group != "notifier" {
            attempts.push("UPDATE notification SET fence = 0");
        }
        if group != "notifier" && group != "api" {
            attempts.push("SELECT address FROM notification_content");
        }
        if group != "api" {
            attempts.extend(["SELECT body FROM request", "SELECT body FROM dead_letter", "SELECT hash FROM api_key"]);
        }
        if group != "activator" {
            attempts.push("UPDATE lease SET fence = 0");
        }
        if group != "activator" && group != "api" {
            attempts.extend(["SELECT request FROM schedule", "UPDATE schedule SET next_at = now()"]);
        }
        if group != "api" {
            attempts.push("UPDATE schedule SET request = '{}'");
        }
        if group != "bridge" && group != "api" && group != "activator" {
            attempts.push("INSERT INTO process (name) VALUES ('mine')");
            attempts.push(
                "INSERT INTO notification (process_id, organisation, channel, scheduled_at, due_at, wake_at, accepted_at,
                     expires_at, max_attempts)
                 VALUES (1, 'main', 'phone', now(), now(), now(), now(), now(), 1)",
            );
        }
        if group != "operator" && group != "api" {
            attempts.push("INSERT INTO channel_pause VALUES ('all', now(), 'me', NULL)");
            attempts.push("DELETE FROM channel_pause");
            attempts.push("UPDATE property SET value = '{}'");
        }
        let connected = database.seen_by(program);
        for sql in attempts {
            assert_eq!(connected.refusal(sql).await.as_deref(), Some("42501"), "{program}: {sql}");
        }
        let allowed = "SELECT FROM notification; SELECT tocsin_now()";
        assert_eq!(connected.refusal(allowed).await, None, "{program} may connect");
        connected.pool.close().await;
    }
}

#[tokio::test]
async fn only_the_owner_migrates() {
    let arena = Arena::new().await;
    let refused = arena.run("tocsin", &["migrate"]).await;
    assert_eq!(refused.status.code(), Some(69));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("only the database's owner can bring its schema up to date"), "{words}");
}

/// Roles belong to the whole cluster, so this test has a cluster of its own.
#[tokio::test]
async fn an_owner_who_is_no_superuser_migrates_if_he_may_make_roles_or_somebody_has() {
    let arena = Arena::with_own_postgres().await;
    let admin = &arena.database;
    admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain-development'").await;
    let mut databases = Vec::new();
    for _ in 0..3 {
        let database = admin.create_empty().await;
        let name = database.url().rsplit_once('/').unwrap().1;
        admin.execute(&format!("ALTER DATABASE {name} OWNER TO plain")).await;
        databases.push(database.seen_by("plain"));
    }
    let migrate = async |n: usize| {
        let settings = [("TOCSIN_DATABASE__URL", databases[n].url())];
        arena.run_with("tocsin", &["migrate"], &settings).await
    };
    let first = migrate(0).await;
    assert!(first.status.success(), "the roles are there already: {first:?}");

    let groups = ["bridge", "activator", "api", "notifier", "operator"];
    for group in groups {
        admin.execute(&format!("ALTER ROLE tocsin_{group} RENAME TO elsewhere_{group}")).await;
    }
    let refused = migrate(1).await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("may not make roles: have an administrator run postgres/roles.sql first"), "{words}");

    admin.execute("ALTER ROLE plain CREATEROLE").await;
    let (second, third) = tokio::join!(migrate(1), migrate(2));
    assert!(second.status.success() && third.status.success(), "{second:?} {third:?}");
    let may = "SELECT has_table_privilege('tocsin_notifier', 'notification_content', 'SELECT')::text";
    for database in &databases[1..] {
        assert_eq!(database.texts(may).await, ["true"]);
    }
}
