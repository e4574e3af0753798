//! Checks of the settings about the queue.

use super::{Check, Checked};
use crate::config::environment as env;
use crate::config::error::Problem;
use crate::model::queue::{AUTO, Address, FILE, MOST_REPLICAS, QueueSettings};

/// Bytes that a project's name may have.
const LONGEST_NAME: usize = 64;

/// All checks.
pub(super) fn check(check: &Check<'_>, queue: &QueueSettings) -> Checked {
    url(check, &queue.url)?;
    if let Some(project) = &queue.project {
        let is_good = !project.trim().is_empty() && !project.chars().any(char::is_control);
        check.ensure(is_good, "queue.project", "a name is one line of plain text")?;
        check.ensure(project.len() <= LONGEST_NAME, "queue.project", "a name has 64 bytes at most")?;
    }
    let is_good = (1..=MOST_REPLICAS).contains(&queue.replicas);
    check.ensure(is_good, "queue.replicas", "from 1 to 5 servers keep it")?;
    check.ensure(queue.keep_log > 0, "queue.keep_log", "a log has a message at least")?;
    let ways = [
        ("credentials", queue.credentials.is_some()),
        ("nkey", queue.nkey.is_some()),
        ("user", queue.user.is_some()),
        ("token_env", queue.token_env.is_some()),
    ];
    let mut used = ways.iter().filter(|(_, is_used)| *is_used).map(|(name, _)| *name);
    if let (Some(first), Some(second)) = (used.next(), used.next()) {
        return Err(check.problem(&format!("queue.{second}"), &format!("`{first}` says already who you are")));
    }
    let is_pair = queue.user.is_some() == queue.password_env.is_some();
    let key = if queue.user.is_some() { "queue.user" } else { "queue.password_env" };
    check.ensure(is_pair, key, "`user` and `password_env` belong together")?;
    let is_pair = queue.tls.cert.is_some() == queue.tls.key.is_some();
    let key = if queue.tls.cert.is_some() { "queue.tls.cert" } else { "queue.tls.key" };
    check.ensure(is_pair, key, "`cert` and `key` belong together")?;
    for (key, name) in [("queue.password_env", &queue.password_env), ("queue.token_env", &queue.token_env)] {
        let cause = name.as_ref().and_then(|name| env::refuse_variable(name, ""));
        check.ensure(cause.is_none(), key, cause.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

/// The word or address.
fn url(check: &Check<'_>, url: &str) -> Checked {
    if [FILE, AUTO].contains(&url) {
        return Ok(());
    }
    if !url.contains("://") && !url.contains('@') {
        let problem = check.problem("queue.url", &format!("unknown value `{url}`"));
        return Err(problem.with_valid("valid values", &[FILE, AUTO, "nats://HOST:PORT", "tls://HOST:PORT"], url));
    }
    match Address::parse(url) {
        Ok(Address { secret: None, .. }) => Ok(()),
        Ok(_) => {
            Err(without_snippet(check.problem("queue.url", "an address cannot hold a name, a password or a token"))
                .with_hint(
                    "name a file (`credentials`, `nkey`) or a variable (`user` with `password_env`, `token_env`)",
                ))
        }
        Err(why) => Err(without_snippet(check.problem("queue.url", why))),
    }
}

/// The problem without the line, which may hold a secret.
fn without_snippet(mut problem: Problem) -> Problem {
    problem.snippet = None;
    problem
}
