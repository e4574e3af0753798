//! The rows of the file queue. Rules are the queue's; this is only how its entries are kept.

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::event::{document, parse};
use super::{StoreError, Txn};
use crate::model::ticket::{Dependency, DependencyKind, IllegalEdge, Need, Ticket, TicketEvent, TicketState, apply};
use crate::model::{TicketId, Time};

/// An entry of the queue without its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TicketRow {
    /// Whether the database has it.
    #[serde(skip)]
    is_stored: bool,
    /// The ticket.
    pub(crate) id: TicketId,
    /// Changed by [`TicketRow::apply`] only.
    state: TicketState,
    /// 1 to 10, higher first.
    pub(crate) priority: u8,
    /// Sequence number of the event that published it: its age.
    pub(crate) position: i64,
    /// What a node must offer.
    pub(crate) capabilities: Vec<String>,
    /// Attempts allowed in a round.
    pub(crate) max_attempts: u32,
    /// Attempts begun, over all rounds.
    pub(crate) attempts: u32,
    /// How many of them do not count against `max_attempts`, because they belong to earlier rounds.
    pub(crate) attempts_before: u32,
    /// Whether the present or last lease counted an attempt.
    pub(crate) counted: bool,
    /// The last fence given out.
    pub(crate) fence: u64,
    /// Who holds or last held it.
    pub(crate) node: Option<String>,
    /// End of the lease while it runs.
    pub(crate) lease_until: Option<Time>,
    /// When a failed ticket is queued again by itself.
    pub(crate) retry_at: Option<Time>,
    /// Why the last attempt failed.
    pub(crate) error: Option<String>,
    /// When its round was published.
    pub(crate) published_at: Time,
    /// When its state last changed.
    pub(crate) changed_at: Time,
    /// The key that published its content.
    publication: String,
    /// Whether some ticket was ever published that depends on it.
    pub(crate) is_needed: bool,
}

/// All that a claim looks at, and beside each the first time of a retry. The two conditions on the state let SQLite
/// see that the partial index has it all. No bound value is compared with an indexed column in a subquery: SQLite
/// would prepare the statement anew for each value.
pub(super) const QUEUED: &str = "SELECT id, capabilities, (SELECT min(retry_at) FROM tickets
        WHERE state = 'failed' AND retry_at IS NOT NULL)
    FROM tickets WHERE state IN ('queued', 'running') AND state = 'queued' ORDER BY priority DESC, position";

/// The columns of [`TicketRow`], in the order [`read_row`] expects.
macro_rules! select_rows {
    ($rest:literal) => {
        concat!(
            "SELECT id, state, priority, position, capabilities, max_attempts, attempts, attempts_before, counted, \
             fence, node, lease_until, retry_at, error, published_at, changed_at, publication, is_needed \
             FROM tickets ",
            $rest
        )
    };
}

/// The content of a publication, ready to be stored.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    /// The ticket.
    pub(crate) ticket: &'a Ticket,
    /// The key that publishes it.
    pub(crate) key: &'a str,
    /// The ticket as stored.
    document: String,
}

impl<'a> Content<'a> {
    /// Writes the content as it is stored, before any lock is held.
    pub(crate) fn new(ticket: &'a Ticket, key: &'a str) -> Result<Self, StoreError> {
        Ok(Self { ticket, key, document: document("ticket", ticket.id.as_str(), ticket)? })
    }
}

impl TicketRow {
    /// A new entry, not yet stored and `open`.
    pub(crate) fn new(content: &Content<'_>, at: Time) -> Self {
        let ticket = content.ticket;
        Self {
            is_stored: false,
            id: ticket.id.clone(),
            state: TicketState::Open,
            priority: ticket.priority,
            position: 0,
            capabilities: ticket.capabilities.clone(),
            max_attempts: ticket.max_attempts,
            attempts: 0,
            attempts_before: 0,
            counted: false,
            fence: 0,
            node: None,
            lease_until: None,
            retry_at: None,
            error: None,
            published_at: at,
            changed_at: at,
            publication: content.key.to_owned(),
            is_needed: false,
        }
    }

    /// Its state.
    pub(crate) fn state(&self) -> TicketState {
        self.state
    }

    /// Whether its present content was published under `key`.
    pub(crate) fn is_published_by(&self, key: &str) -> bool {
        self.publication == key
    }

    /// Takes the state machine's edge for `event`; changes nothing when there is none.
    pub(crate) fn apply(&mut self, event: TicketEvent) -> Result<(), IllegalEdge> {
        self.state = apply(self.state, event)?;
        Ok(())
    }

    /// Begins a new round: the life of the entry starts at `open` again.
    pub(crate) fn reset(&mut self) {
        self.state = TicketState::Open;
    }
}

impl Txn<'_> {
    /// The entry whose id equals `id` without regard to case.
    pub(crate) fn find_ticket(&self, id: &TicketId) -> Result<Option<TicketRow>, StoreError> {
        self.row(select_rows!("WHERE id = ?1"), [id.as_str()], read_row)
    }

    /// Whether nothing is known of a key and an id, and nobody waits for the id: the frequent case of a publication,
    /// in one look.
    pub(crate) fn is_unheard_of(&self, key: &str, id: &TicketId) -> Result<bool, StoreError> {
        let sql = "SELECT NOT EXISTS(SELECT 1 FROM publications WHERE key = ?1)
            AND NOT EXISTS(SELECT 1 FROM tickets WHERE id = ?2)
            AND NOT EXISTS(SELECT 1 FROM dependencies WHERE needs = ?2)";
        Ok(self.row(sql, params![key, id.as_str()], |row| row.get(0))?.unwrap_or(false))
    }

    /// The entry that `key` published.
    pub(crate) fn published_by(&self, key: &str) -> Result<Option<TicketRow>, StoreError> {
        let sql = select_rows!("WHERE id = (SELECT ticket FROM publications WHERE key = ?1)");
        self.row(sql, [key], read_row)
    }

    /// Stores an entry without its content: new when it never was stored.
    pub(crate) fn put_ticket(&self, row: &mut TicketRow) -> Result<(), StoreError> {
        if !row.is_stored {
            row.is_stored = true;
            return self.insert_ticket(row);
        }
        // Columns that a lease changes; the others change with the content only.
        let sql = "UPDATE tickets SET state = ?2, attempts = ?3, attempts_before = ?4, counted = ?5, fence = ?6,
            node = ?7, lease_until = ?8, retry_at = ?9, error = ?10, changed_at = ?11 WHERE id = ?1";
        let values = params![
            row.id.as_str(),
            row.state.as_str(),
            row.attempts,
            row.attempts_before,
            row.counted,
            signed(row.fence),
            row.node,
            row.lease_until.map(Time::as_millis),
            row.retry_at.map(Time::as_millis),
            row.error,
            row.changed_at.as_millis(),
        ];
        self.run(sql, values).map(|_| ())
    }

    /// Inserts a new entry.
    fn insert_ticket(&self, row: &TicketRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO tickets(id, state, priority, position, capabilities, max_attempts, attempts,
            attempts_before, counted, fence, published_at, changed_at, publication, is_needed)
            VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, 0, ?7, ?7, ?8, ?9)";
        let values = params![
            row.id.as_str(),
            row.state.as_str(),
            row.priority,
            row.position,
            capabilities_text(&row.capabilities)?,
            row.max_attempts,
            row.published_at.as_millis(),
            row.publication,
            row.is_needed,
        ];
        self.run(sql, values).map(|_| ())
    }

    /// Stores the content of an entry that is new.
    pub(crate) fn put_first_content(&self, row: &TicketRow, content: &Content<'_>) -> Result<(), StoreError> {
        self.put_publication(row, content)?;
        self.put_dependencies(content.ticket)
    }

    /// Stores new content of a known entry under the key that published it, and everything that follows from it. What
    /// earlier keys published stays.
    pub(crate) fn put_new_content(&self, row: &mut TicketRow, content: &Content<'_>) -> Result<(), StoreError> {
        let ticket = content.ticket;
        content.key.clone_into(&mut row.publication);
        self.put_publication(row, content)?;
        let sql = "UPDATE tickets SET priority = ?2, position = ?3, capabilities = ?4, max_attempts = ?5,
            published_at = ?6, publication = ?7 WHERE id = ?1";
        let capabilities = capabilities_text(&ticket.capabilities)?;
        let published_at = row.published_at.as_millis();
        let values = params![
            row.id.as_str(),
            ticket.priority,
            row.position,
            capabilities,
            ticket.max_attempts,
            published_at,
            content.key
        ];
        self.run(sql, values)?;
        self.run("DELETE FROM dependencies WHERE ticket = ?1", [row.id.as_str()])?;
        self.put_dependencies(ticket)
    }

    /// Stores what the entry's key published.
    fn put_publication(&self, row: &TicketRow, content: &Content<'_>) -> Result<(), StoreError> {
        let sql = "INSERT INTO publications(key, ticket, document) VALUES(?1, ?2, ?3)";
        self.run(sql, params![content.key, row.id.as_str(), content.document]).map(|_| ())
    }

    /// Stores what a ticket waits for.
    fn put_dependencies(&self, ticket: &Ticket) -> Result<(), StoreError> {
        for dependency in &ticket.depends_on {
            self.run("UPDATE tickets SET is_needed = 1 WHERE id = ?1", [dependency.ticket.as_str()])?;
            let sql = "INSERT OR IGNORE INTO dependencies(ticket, needs, kind, is_stackable) VALUES(?1, ?2, ?3, ?4)";
            let (needs, kind) = (dependency.ticket.as_str(), dependency.kind.as_str());
            self.run(sql, params![ticket.id.as_str(), needs, kind, ticket.is_stackable_on(dependency)])?;
        }
        Ok(())
    }

    /// Stores an entry as it is in the tables of another database, whatever this one had.
    pub(crate) fn mirror_ticket(&self, row: &TicketRow) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO tickets(id, state, priority, position, capabilities, max_attempts, attempts,
            attempts_before, counted, fence, node, lease_until, retry_at, error, published_at, changed_at, publication,
            is_needed) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
        let values = params![
            row.id.as_str(),
            row.state.as_str(),
            row.priority,
            row.position,
            capabilities_text(&row.capabilities)?,
            row.max_attempts,
            row.attempts,
            row.attempts_before,
            row.counted,
            signed(row.fence),
            row.node,
            row.lease_until.map(Time::as_millis),
            row.retry_at.map(Time::as_millis),
            row.error,
            row.published_at.as_millis(),
            row.changed_at.as_millis(),
            row.publication,
            row.is_needed,
        ];
        self.run(sql, values).map(|_| ())
    }

    /// Stores what was published into another database. Its entry has been mirrored before.
    pub(crate) fn mirror_content(&self, content: &Content<'_>) -> Result<(), StoreError> {
        let id = content.ticket.id.as_str();
        let sql = "INSERT INTO publications(key, ticket, document) VALUES(?1, ?2, ?3)";
        self.run(sql, params![content.key, id, content.document])?;
        self.run("DELETE FROM dependencies WHERE ticket = ?1", [id])?;
        self.put_dependencies(content.ticket)
    }

    /// All that was published: key, ticket, and the length of it as stored. What an entry has now comes after what it had.
    pub(crate) fn publications(&self) -> Result<Vec<(String, Ticket, usize)>, StoreError> {
        let sql = "SELECT p.key, p.ticket, p.document FROM publications p JOIN tickets t ON t.id = p.ticket
            ORDER BY t.publication = p.key, p.key";
        let rows: Vec<(String, String, String)> =
            self.rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.into_iter().map(|(key, id, text)| Ok((key, parse("ticket", &id, &text)?, text.len()))).collect()
    }

    /// Makes every entry older than whatever is published from now on, in any engine; their order stays.
    pub(crate) fn age_queue(&self) -> Result<(), StoreError> {
        let sql = "UPDATE tickets SET position = position - 1 - (SELECT max(0, max(position)) FROM tickets)";
        self.run(sql, []).map(|_| ())
    }

    /// Deletes all entries, everything published, and who leads.
    pub(crate) fn clear_queue(&self) -> Result<(), StoreError> {
        for sql in ["DELETE FROM tickets", "DELETE FROM publications", "DELETE FROM dependencies", "DELETE FROM leases"]
        {
            self.run(sql, [])?;
        }
        Ok(())
    }

    /// The content of an entry.
    pub(crate) fn content(&self, row: &TicketRow) -> Result<Ticket, StoreError> {
        let sql = "SELECT document FROM publications WHERE key = ?1";
        let text: Option<String> = self.row(sql, [&row.publication], |row| row.get(0))?;
        parse("ticket", row.id.as_str(), text.as_deref().unwrap_or_default())
    }

    /// An entry with its content. Two statements, because SQLite prepares a join by a bound id anew at each use.
    pub(crate) fn ticket_and_content(&self, id: &str) -> Result<Option<(TicketRow, Ticket)>, StoreError> {
        let row = self.row(select_rows!("WHERE id = ?1"), [id], read_row)?;
        row.map(|row| self.content(&row).map(|ticket| (row, ticket))).transpose()
    }

    /// The dependencies of an entry, each with the state of the ticket it means, where that is known.
    pub(crate) fn dependencies(&self, row: &TicketRow) -> Result<Vec<Need>, StoreError> {
        let sql =
            "SELECT d.needs, d.kind, t.state, d.is_stackable FROM dependencies d LEFT JOIN tickets t ON t.id = d.needs
            WHERE d.ticket = ?1";
        self.rows(sql, [row.id.as_str()], |row| {
            let kind = kind_of(row.get_ref(1)?.as_str()?);
            let state = row.get::<_, Option<String>>(2)?.map(|word| state_of(2, &word)).transpose()?;
            let dependency = Dependency { ticket: id_of(0, row.get(0)?)?, kind };
            Ok(Need { dependency, is_stackable: row.get(3)?, state })
        })
    }

    /// Ids as written by those who depend on `id`, without regard to case.
    pub(crate) fn spelled_by_dependents(&self, id: &TicketId) -> Result<Vec<TicketId>, StoreError> {
        let sql = "SELECT needs FROM dependencies WHERE needs = ?1";
        self.rows(sql, [id.as_str()], |row| id_of(0, row.get(0)?))
    }

    /// The queued and blocked entries that depend on `id`.
    pub(crate) fn waiting_dependents(&self, id: &TicketId) -> Result<Vec<TicketRow>, StoreError> {
        let sql = select_rows!(
            "WHERE id IN (SELECT ticket FROM dependencies WHERE needs = ?1) AND state IN ('queued', 'blocked')"
        );
        self.rows(sql, [id.as_str()], read_row)
    }

    /// Whether a claim could find anything: a queued entry, or a failed one whose time has come.
    pub(crate) fn has_claimable(&self, now: Time) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS(SELECT 1 FROM tickets WHERE state IN ('queued', 'running') AND state = 'queued'),
            (SELECT min(retry_at) FROM tickets WHERE state = 'failed' AND retry_at IS NOT NULL)";
        let found = self.row(sql, [], |row| Ok((row.get::<_, bool>(0)?, moment(row, 1)?)))?;
        Ok(found.is_some_and(|(queued, retry_at)| queued || retry_at.is_some_and(|at| at <= now)))
    }

    /// Whether a sweep would find anything: an overdue lease, or a failed entry whose time has come.
    pub(crate) fn has_due(&self, now: Time) -> Result<bool, StoreError> {
        let sql = "SELECT
            (SELECT min(lease_until) FROM tickets WHERE state IN ('queued', 'running') AND state = 'running'),
            (SELECT min(retry_at) FROM tickets WHERE state = 'failed' AND retry_at IS NOT NULL)";
        let found = self.row(sql, [], |row| Ok((moment(row, 0)?, moment(row, 1)?)))?;
        Ok(found.is_some_and(|(lease_until, retry_at)| {
            lease_until.is_some_and(|at| at < now) || retry_at.is_some_and(|at| at <= now)
        }))
    }

    /// The ids of the best `limit` queued entries that `accept` takes by their capabilities, in claim order; `None`
    /// when a retry is due, which has to be queued first, or nothing at all is queued.
    pub(crate) fn queued(
        &self,
        now: Time,
        limit: usize,
        accept: impl Fn(&[String]) -> bool,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let mut found = None;
        self.scan(QUEUED, [], |row| {
            if moment(row, 2)?.is_some_and(|retry_at| retry_at <= now) {
                return Ok(false);
            }
            let found = found.get_or_insert_with(Vec::new);
            if accept(&capabilities_of(1, row.get_ref(1)?.as_str()?)?) {
                found.push(row.get::<_, String>(0)?);
            }
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    /// The failed entries whose time has come, oldest time first.
    pub(crate) fn due_retries(&self, now: Time) -> Result<Vec<TicketRow>, StoreError> {
        let sql = select_rows!("WHERE state = 'failed' AND retry_at IS NOT NULL AND retry_at <= ?1 ORDER BY retry_at");
        self.rows(sql, [now.as_millis()], read_row)
    }

    /// The running entries whose lease ended before `now`, longest overdue first.
    pub(crate) fn overdue(&self, now: Time) -> Result<Vec<TicketRow>, StoreError> {
        let sql = select_rows!(
            "WHERE state IN ('queued', 'running') AND state = 'running' AND lease_until < ?1 ORDER BY lease_until"
        );
        self.rows(sql, [now.as_millis()], read_row)
    }

    /// All entries, in claim order.
    pub(crate) fn tickets(&self) -> Result<Vec<TicketRow>, StoreError> {
        self.rows(select_rows!("ORDER BY priority DESC, position"), [], read_row)
    }

    /// The running entries that a holder has, in claim order.
    pub(crate) fn held_by(&self, holder: &str) -> Result<Vec<TicketRow>, StoreError> {
        let sql = select_rows!("WHERE state = 'running' AND node = ?1 ORDER BY priority DESC, position");
        self.rows(sql, [holder], read_row)
    }

    /// Ids and states of all entries.
    pub(crate) fn ticket_states(&self) -> Result<Vec<(TicketId, TicketState)>, StoreError> {
        let read = |row: &Row<'_>| Ok((id_of(0, row.get(0)?)?, state_of(1, row.get_ref(1)?.as_str()?)?));
        self.rows("SELECT id, state FROM tickets", [], read)
    }
}

/// Reads the columns of [`select_rows`].
fn read_row(row: &Row<'_>) -> rusqlite::Result<TicketRow> {
    Ok(TicketRow {
        is_stored: true,
        id: id_of(0, row.get(0)?)?,
        state: state_of(1, row.get_ref(1)?.as_str()?)?,
        priority: row.get(2)?,
        position: row.get(3)?,
        capabilities: capabilities_of(4, row.get_ref(4)?.as_str()?)?,
        max_attempts: row.get(5)?,
        attempts: row.get(6)?,
        attempts_before: row.get(7)?,
        counted: row.get(8)?,
        fence: row.get::<_, i64>(9)?.unsigned_abs(),
        node: row.get(10)?,
        lease_until: moment(row, 11)?,
        retry_at: moment(row, 12)?,
        error: row.get(13)?,
        published_at: Time::from_millis(row.get(14)?),
        changed_at: Time::from_millis(row.get(15)?),
        publication: row.get(16)?,
        is_needed: row.get(17)?,
    })
}

/// A moment that may be missing.
fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Time>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Time::from_millis))
}

/// A fence as SQLite keeps integers; fences count leases and never come near the limit.
pub(super) fn signed(fence: u64) -> i64 {
    i64::try_from(fence).unwrap_or(i64::MAX)
}

/// A column's text as an id.
fn id_of(column: usize, text: String) -> rusqlite::Result<TicketId> {
    TicketId::try_from(text).map_err(|error| unreadable(column, error))
}

/// A column's word as a state.
fn state_of(column: usize, word: &str) -> rusqlite::Result<TicketState> {
    TicketState::from_word(word).ok_or_else(|| unreadable(column, UnknownState(word.to_owned())))
}

/// A state that this program does not know; the schema's check keeps it out.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a ticket state")]
struct UnknownState(String);

/// A column that does not hold what it should.
fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// Capabilities as stored: a JSON array, sorted, so that equal sets are equal texts.
fn capabilities_text(capabilities: &[String]) -> Result<String, StoreError> {
    let mut sorted: Vec<&String> = capabilities.iter().collect();
    sorted.sort();
    sorted.dedup();
    document("capabilities", "", &sorted)
}

/// Reads stored capabilities; none is by far the most frequent and costs nothing.
fn capabilities_of(column: usize, text: &str) -> rusqlite::Result<Vec<String>> {
    if text == "[]" {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

/// The kind a word means; the schema allows no others.
fn kind_of(word: &str) -> DependencyKind {
    DependencyKind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or_default()
}
