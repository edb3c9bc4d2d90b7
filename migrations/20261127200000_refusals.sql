-- How often its provider refused it for now: a claim that was given back without a call is none of that.
ALTER TABLE notification ADD COLUMN refusals smallint NOT NULL DEFAULT 0;

GRANT UPDATE (refusals) ON notification TO tocsin_notifier, tocsin_api;
