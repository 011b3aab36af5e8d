-- How often the far side has asked to be tried later. A try that a kill has cut short is none.
ALTER TABLE letter ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
