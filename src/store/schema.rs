//! The database's format: one numbered step per version, each applied once and never edited after a release.

use rusqlite::Connection;

/// The steps; step `n` brings a database of format `n` (0: empty) to format `n + 1`.
pub(super) const STEPS: &[&str] = &[VERSION_1, REVIEWS, COORDINATION, MESSAGES, ADDRESSEES, ARRANGEMENT, SHARED_SPEND];

/// The newest format this program knows.
pub(super) fn newest() -> u32 {
    u32::try_from(STEPS.len()).expect("a handful of steps")
}

/// Format 1.
///
/// What a change of state costs is the number of pages it touches, so the tables are cut for that. Content is apart
/// from state, in the row of the key that published it, and a change of state never rewrites a prompt. One index
/// holds what is queued and what runs: a claim moves an entry within a page or two, and a renewal touches no index.
/// It has all a claim looks at. Ids compare without regard to case, so that ids a file system may fold can be
/// refused. `position` is the sequence number of the event that published the ticket: an age that no clock disturbs.
const VERSION_1: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE events(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK(kind IN ('queue', 'worker')),
  ticket TEXT NOT NULL,
  data TEXT NOT NULL
) STRICT;

CREATE TABLE tickets(
  id TEXT PRIMARY KEY COLLATE NOCASE,
  state TEXT NOT NULL CHECK(state IN ('open', 'queued', 'blocked', 'waiting_approval', 'running', 'review',
    'approved', 'landing', 'landed', 'done', 'failed', 'dead', 'lost', 'cancelled')),
  priority INTEGER NOT NULL,
  position INTEGER NOT NULL,
  capabilities TEXT NOT NULL,
  max_attempts INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  attempts_before INTEGER NOT NULL,
  counted INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  node TEXT,
  lease_until INTEGER,
  retry_at INTEGER,
  error TEXT,
  published_at INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  publication TEXT NOT NULL,
  is_needed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_active ON tickets(state, priority DESC, position, capabilities)
  WHERE state IN ('queued', 'running');
CREATE INDEX tickets_retried ON tickets(retry_at) WHERE state = 'failed' AND retry_at IS NOT NULL;

CREATE TABLE publications(
  key TEXT PRIMARY KEY,
  ticket TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dependencies(
  ticket TEXT NOT NULL,
  needs TEXT NOT NULL COLLATE NOCASE,
  kind TEXT NOT NULL CHECK(kind IN ('success', 'completion')),
  PRIMARY KEY(ticket, needs, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependencies_by_need ON dependencies(needs);

CREATE TABLE workers(
  row INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  ticket TEXT NOT NULL,
  phase TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT;

CREATE TABLE ports(
  first INTEGER PRIMARY KEY,
  size INTEGER NOT NULL,
  worker TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE reviews(
  seq INTEGER PRIMARY KEY,
  worker TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT;
CREATE INDEX reviews_by_worker ON reviews(worker, seq);

CREATE TABLE landing_intents(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  document TEXT NOT NULL
) STRICT;
";

/// Comments become objects of their own, reviewers leave runs, and people tick items of checklists.
///
/// Comments that earlier formats kept within a review are taken along: those of a rejection, and those before one, had
/// been sent to the agent.
const REVIEWS: &str = "
CREATE TABLE comments(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  worker TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT;
CREATE INDEX comments_by_worker ON comments(worker, id);
INSERT INTO comments(worker, document)
  SELECT r.worker, json_object(
    'ticket', json_extract(r.document, '$.ticket'), 'worker', r.worker,
    'commit', json_extract(r.document, '$.commit'), 'file', json_extract(c.value, '$.file'), 'side', 'new',
    'lines', json_object('first', json_extract(c.value, '$.line'), 'last', json_extract(c.value, '$.line')),
    'quote', json('[]'), 'text', json_extract(c.value, '$.text'), 'by', json_extract(r.document, '$.by'),
    'state', CASE WHEN EXISTS(SELECT 1 FROM reviews l WHERE l.worker = r.worker AND l.seq >= r.seq
      AND json_extract(l.document, '$.verdict') = 'rejected') THEN 'sent' ELSE 'open' END,
    'at', json_extract(r.document, '$.at'))
  FROM reviews r, json_each(r.document, '$.comments') c ORDER BY r.seq, c.key;

CREATE TABLE reviewer_runs(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  worker TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT;
CREATE INDEX reviewer_runs_by_worker ON reviewer_runs(worker, id);

CREATE TABLE ticks(
  worker TEXT NOT NULL,
  item TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY(worker, item)
) STRICT, WITHOUT ROWID;
";

/// What a coordinator keeps: its facts in the event stream, leases of roles, runs, what is held and why, what was spent,
/// models that want to be left alone for a while, what was done about workers that did not go on, and what is worth
/// knowing of old events when they are deleted.
///
/// The event table is made anew, since a table's checks cannot be changed; the sequence numbers stay, and so does the
/// highest one ever given out. A fact about no ticket has an empty one. The same for dependencies, of which there is
/// another kind now, and of which it is kept whether the dependent may start from their branch.
const COORDINATION: &str = "
CREATE TABLE events_3(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK(kind IN ('queue', 'worker', 'swarm')),
  ticket TEXT NOT NULL,
  data TEXT NOT NULL
) STRICT;
INSERT INTO events_3(seq, kind, ticket, data) SELECT seq, kind, ticket, data FROM events;
DELETE FROM sqlite_sequence WHERE name = 'events_3';
INSERT INTO sqlite_sequence(name, seq) SELECT 'events_3', seq FROM sqlite_sequence WHERE name = 'events';
DROP TABLE events;
ALTER TABLE events_3 RENAME TO events;

CREATE TABLE dependencies_3(
  ticket TEXT NOT NULL,
  needs TEXT NOT NULL COLLATE NOCASE,
  kind TEXT NOT NULL CHECK(kind IN ('success', 'completion', 'data')),
  is_stackable INTEGER NOT NULL,
  PRIMARY KEY(ticket, needs, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO dependencies_3(ticket, needs, kind, is_stackable) SELECT ticket, needs, kind, 0 FROM dependencies;
DROP TABLE dependencies;
ALTER TABLE dependencies_3 RENAME TO dependencies;
CREATE INDEX dependencies_by_need ON dependencies(needs);

CREATE TABLE leases(
  role TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  fence INTEGER NOT NULL,
  lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE runs(
  id TEXT PRIMARY KEY,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE holds(
  ticket TEXT PRIMARY KEY COLLATE NOCASE,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE spend(
  account TEXT NOT NULL,
  day TEXT NOT NULL,
  run TEXT NOT NULL,
  model TEXT NOT NULL,
  ticket TEXT NOT NULL COLLATE NOCASE,
  worker TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  agent TEXT NOT NULL,
  role TEXT NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cost_usd REAL NOT NULL,
  unpriced_tokens INTEGER NOT NULL,
  estimated_tokens INTEGER NOT NULL,
  time_ms INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  PRIMARY KEY(account, day, run, attempt, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX spend_by_day ON spend(day);
CREATE INDEX spend_by_ticket ON spend(ticket);
CREATE INDEX spend_by_run ON spend(run);

CREATE TABLE pacing(
  model TEXT PRIMARY KEY,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE history(
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK(kind IN ('ticket', 'run')),
  name TEXT NOT NULL COLLATE NOCASE,
  changed_at INTEGER NOT NULL,
  document TEXT NOT NULL
) STRICT;
CREATE INDEX history_by_name ON history(kind, name, id);

CREATE TABLE care(
  worker TEXT PRIMARY KEY,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Messages: those of channels are events of another kind, and are known by their ids; those for workers wait in mailboxes
/// and are remembered for a while when they have left them; how many an agent has sent is counted.
///
/// The event table is made anew as it was before.
const MESSAGES: &str = "
CREATE TABLE events_4(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK(kind IN ('queue', 'worker', 'swarm', 'bus')),
  ticket TEXT NOT NULL,
  data TEXT NOT NULL
) STRICT;
INSERT INTO events_4(seq, kind, ticket, data) SELECT seq, kind, ticket, data FROM events;
DELETE FROM sqlite_sequence WHERE name = 'events_4';
INSERT INTO sqlite_sequence(name, seq) SELECT 'events_4', seq FROM sqlite_sequence WHERE name = 'events';
DROP TABLE events;
ALTER TABLE events_4 RENAME TO events;
CREATE UNIQUE INDEX events_by_message ON events(json_extract(data, '$.id')) WHERE kind = 'bus';

CREATE TABLE mail(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  worker TEXT NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('waiting', 'delivered', 'expired', 'withdrawn')),
  at INTEGER NOT NULL,
  document TEXT NOT NULL
) STRICT;
CREATE INDEX mail_waiting ON mail(worker, seq) WHERE state = 'waiting';

CREATE TABLE sent(
  sender TEXT PRIMARY KEY,
  count INTEGER NOT NULL,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Mail is known by its id and its addressee: one message to two workers is two letters.
const ADDRESSEES: &str = "
CREATE TABLE mail_5(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  worker TEXT NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('waiting', 'delivered', 'expired', 'withdrawn')),
  at INTEGER NOT NULL,
  document TEXT NOT NULL,
  UNIQUE(id, worker)
) STRICT;
INSERT INTO mail_5(seq, id, worker, state, at, document) SELECT seq, id, worker, state, at, document FROM mail;
DELETE FROM sqlite_sequence WHERE name = 'mail_5';
INSERT INTO sqlite_sequence(name, seq) SELECT 'mail_5', seq FROM sqlite_sequence WHERE name = 'mail';
DROP TABLE mail;
ALTER TABLE mail_5 RENAME TO mail;
CREATE INDEX mail_waiting ON mail(worker, seq) WHERE state = 'waiting';
";

/// What a topology has to remember: the supervisor that owns each ticket of a hierarchy, and for each ticket that goes round
/// a ring who has its token.
const ARRANGEMENT: &str = "
CREATE TABLE owners(
  ticket TEXT PRIMARY KEY COLLATE NOCASE,
  supervisor TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE tokens(
  ticket TEXT PRIMARY KEY COLLATE NOCASE,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// What the clones that share a queue spent: `node` is empty in rows of this one. What this one spent on a ticket on a day
/// is to be told to the others while `version` is more than `told`; of what they told, the last version was taken over.
const SHARED_SPEND: &str = "
ALTER TABLE spend ADD COLUMN node TEXT NOT NULL DEFAULT '';
CREATE TABLE spend_told(
  day TEXT NOT NULL,
  ticket TEXT NOT NULL COLLATE NOCASE,
  version INTEGER NOT NULL,
  told INTEGER NOT NULL,
  PRIMARY KEY(day, ticket)
) STRICT, WITHOUT ROWID;
CREATE INDEX spend_untold ON spend_told(day, ticket) WHERE version > told;
CREATE TABLE spend_heard(
  report TEXT PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The database's format number; 0 for an empty one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the database from whatever format it has to the end of `steps`, in one transaction.
///
/// The caller checked that the format is not newer. Two processes that do this at once both succeed: the second
/// finds nothing left to do.
pub(super) fn migrate(connection: &Connection, steps: &[&str]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let migrated = apply_missing(connection, steps);
    match migrated {
        Ok(()) => connection.execute_batch("COMMIT"),
        Err(error) => {
            // The first error is the one to tell; SQLite may have rolled back already.
            let _already_rolled_back = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

/// Applies the steps from the database's format on; inside the caller's transaction.
fn apply_missing(connection: &Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let found = version(connection)?;
    for (step, number) in steps.iter().zip(1u32..).skip(found as usize) {
        connection.execute_batch(step)?;
        connection.pragma_update(None, "user_version", number)?;
    }
    Ok(())
}
