-- The names of a batch are looked up as an array, which leads straight to them as the first column of an index only: as the
-- second one the planner may rather read all of an organisation in order, as long as it believes that there is little of it.
ALTER TABLE process
    ADD CONSTRAINT process_name UNIQUE (name, organisation),
    DROP CONSTRAINT process_organisation_name_key;
