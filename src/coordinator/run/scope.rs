//! Tickets that mean to touch the same files do not run at once.

use crate::model::TicketId;
use crate::model::scope::Scope;
use crate::model::ticket::Ticket;

/// Why a ticket is held: another one that runs may touch the same files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScopeHold {
    /// The one that runs.
    pub(crate) with: TicketId,
    /// A path that is in the scopes of both.
    pub(crate) path: String,
}

impl std::fmt::Display for ScopeHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "waits for `{}`, which runs and may touch the same files, such as `{}`", self.with, self.path)
    }
}

/// What holds `ticket` while `running` ones run; the caller asks only where overlaps are not allowed, and counts as
/// running what it is about to start. A ticket that states no scope is never held and holds nobody.
pub(crate) fn scope_hold<'a>(ticket: &Ticket, running: impl IntoIterator<Item = &'a Ticket>) -> Option<ScopeHold> {
    let own = Scope::new(&ticket.scope);
    if !own.is_stated() {
        return None;
    }
    running.into_iter().filter(|other| other.id != ticket.id).find_map(|other| {
        let path = own.common(&Scope::new(&other.scope))?;
        Some(ScopeHold { with: other.id.clone(), path })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(name: &str, scope: &[&str]) -> Ticket {
        let scope = scope.iter().map(|pattern| (*pattern).to_owned()).collect();
        Ticket { scope, ..Ticket::plain(name.parse().unwrap()) }
    }

    #[test]
    fn a_ticket_is_held_by_the_first_one_that_may_touch_its_files() {
        let running =
            [ticket("docs", &["docs/**"]), ticket("open", &[]), ticket("lexer", &["src/lexer/**", "src/*.rs"])];
        let held = |scope: &[&str]| scope_hold(&ticket("new", scope), &running).map(|hold| hold.to_string());
        assert_eq!(held(&["src/parser/**"]), None);
        let text = "waits for `lexer`, which runs and may touch the same files, such as `src/mod.rs`";
        assert_eq!(held(&["src/parser/**", "src/mod.rs"]).as_deref(), Some(text));
        assert_eq!(held(&[]), None, "what states no scope is not held");
        let again = ticket("lexer", &["src/**"]);
        assert_eq!(scope_hold(&again, &running), None, "nobody is held by itself");
    }
}
