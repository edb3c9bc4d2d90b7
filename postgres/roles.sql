-- The users that the programs connect as. Run it again after a change; README.md beside it says how.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- A user whose variable is empty or not set keeps the password that it has, if any.
\set bridge ''
\set activator ''
\set api ''
\set notifier_phone ''
\set notifier_sms ''
\set notifier_email ''
\set notifier_pubnub ''
\set notifier_sns ''
\set notifier_webhook ''
\set notifier_console ''
\set operator ''
\getenv bridge POSTGRES_BRIDGE_PASSWORD
\getenv activator POSTGRES_ACTIVATOR_PASSWORD
\getenv api POSTGRES_API_PASSWORD
\getenv notifier_phone POSTGRES_NOTIFIER_PHONE_PASSWORD
\getenv notifier_sms POSTGRES_NOTIFIER_SMS_PASSWORD
\getenv notifier_email POSTGRES_NOTIFIER_EMAIL_PASSWORD
\getenv notifier_pubnub POSTGRES_NOTIFIER_PUBNUB_PASSWORD
\getenv notifier_sns POSTGRES_NOTIFIER_SNS_PASSWORD
\getenv notifier_webhook POSTGRES_NOTIFIER_WEBHOOK_PASSWORD
\getenv notifier_console POSTGRES_NOTIFIER_CONSOLE_PASSWORD
\getenv operator POSTGRES_OPERATOR_PASSWORD

BEGIN;

-- What each may do is granted to these, by the migrations. They make them too, if they are the first and may.
SELECT format('CREATE ROLE %I NOLOGIN', name)
FROM (VALUES ('tocsin_bridge'), ('tocsin_activator'), ('tocsin_api'), ('tocsin_notifier'), ('tocsin_operator')) AS role (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

SELECT command
FROM (VALUES
    ('bridge', 'tocsin_bridge', :'bridge'),
    ('activator', 'tocsin_activator', :'activator'),
    ('api', 'tocsin_api', :'api'),
    ('notifier-phone', 'tocsin_notifier', :'notifier_phone'),
    ('notifier-sms', 'tocsin_notifier', :'notifier_sms'),
    ('notifier-email', 'tocsin_notifier', :'notifier_email'),
    ('notifier-pubnub', 'tocsin_notifier', :'notifier_pubnub'),
    ('notifier-sns', 'tocsin_notifier', :'notifier_sns'),
    ('notifier-webhook', 'tocsin_notifier', :'notifier_webhook'),
    ('notifier-console', 'tocsin_notifier', :'notifier_console'),
    ('operator', 'tocsin_operator', :'operator')
) AS login (name, role, password)
CROSS JOIN LATERAL (VALUES
    (1, CASE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN format('CREATE ROLE %I LOGIN', name) END),
    (2, format('GRANT %I TO %I', role, name)),
    (3, CASE WHEN password <> '' THEN format('ALTER ROLE %I PASSWORD %L', name, password) END)
) AS step (number, command)
WHERE command IS NOT NULL
ORDER BY name, number
\gexec

COMMIT;
