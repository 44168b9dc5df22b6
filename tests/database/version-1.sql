-- A database of schema version 1, as written by `.dump`. Do not change it: existing databases are
-- like this.
PRAGMA journal_mode = wal;
BEGIN;
CREATE TABLE plugins (
        name          TEXT PRIMARY KEY NOT NULL,
        version       TEXT,
        description   TEXT,
        node          TEXT,
        node_given    INTEGER NOT NULL,
        status        TEXT NOT NULL,
        since         INTEGER NOT NULL,
        reason        TEXT NOT NULL,
        registered_at INTEGER NOT NULL,
        incarnation   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
CREATE TABLE events (
        revision      INTEGER PRIMARY KEY NOT NULL,
        at            INTEGER NOT NULL,
        kind          TEXT NOT NULL,
        name          TEXT NOT NULL,
        version       TEXT,
        description   TEXT,
        node          TEXT,
        node_given    INTEGER NOT NULL,
        status        TEXT NOT NULL,
        since         INTEGER NOT NULL,
        reason        TEXT NOT NULL,
        registered_at INTEGER NOT NULL,
        incarnation   INTEGER NOT NULL
    ) STRICT;
INSERT INTO events VALUES(1,1700000000123456789,'plugin_registered_v1','hecate-app-traderd','0.1.0','Trading — daemon','hecate_traderd@first',1,'running',1700000000123456789,'it registered',1700000000123456789,1);
INSERT INTO events VALUES(2,1700000001000000000,'plugin_registered_v1','hecate-goned',NULL,NULL,NULL,0,'running',1700000001000000000,'it registered',1700000001000000000,2);
INSERT INTO events VALUES(3,1700000002000000000,'plugin_registered_v1','hecate-marthad',NULL,'',NULL,0,'running',1700000002000000000,'it registered',1700000002000000000,3);
INSERT INTO events VALUES(4,1700000003000000000,'plugin_status_changed_v1','hecate-marthad',NULL,'',NULL,0,'stopped',1700000003000000000,'its socket is gone',1700000002000000000,3);
INSERT INTO events VALUES(5,1700000004000000000,'plugin_deregistered_v1','hecate-goned',NULL,NULL,NULL,0,'running',1700000001000000000,'it registered',1700000001000000000,2);
INSERT INTO plugins VALUES('hecate-app-traderd','0.1.0','Trading — daemon','hecate_traderd@first',1,'running',1700000000123456789,'it registered',1700000000123456789,1);
INSERT INTO plugins VALUES('hecate-marthad',NULL,'',NULL,0,'stopped',1700000003000000000,'its socket is gone',1700000002000000000,3);
PRAGMA user_version = 1;
COMMIT;
