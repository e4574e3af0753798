//! Hook calls that found no supervisor: one JSON object a line, kept until the next supervisor folds them in.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::AgentError;
use super::event::HookCall;
use crate::files::{FileError, FileLock, open_log, read_if_exists};

/// Adds a call to the spool.
pub(crate) fn append_to_spool(spool: &Path, call: &HookCall) -> Result<(), AgentError> {
    let mut line = serde_json::to_vec(call).unwrap_or_default();
    line.push(b'\n');
    let lock = FileLock::wait(&lock_path(spool))?;
    let written = open_log(spool)?.write_all(&line);
    drop(lock);
    written.map_err(|source| AgentError::Log { path: spool.to_owned(), source })
}

/// Takes all calls, oldest first. They are on disk until [`discard_spool`]: a supervisor that dies before it has
/// folded them in takes them again. Lines that are no call (a torn one, say) are left out.
pub(crate) fn take_spool(spool: &Path) -> Result<Vec<HookCall>, AgentError> {
    let taken = taken_path(spool);
    let lock = FileLock::wait(&lock_path(spool))?;
    let mut bytes = read_if_exists(&taken)?.unwrap_or_default();
    if let Some(new) = read_if_exists(spool)? {
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend(new);
        crate::files::write_atomically(&taken, &bytes, crate::files::Access::Private)?;
        fs::remove_file(spool).map_err(FileError::on("remove", spool))?;
    }
    drop(lock);
    let mut calls: Vec<HookCall> =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    calls.sort_by_key(|call| call.at);
    Ok(calls)
}

/// Removes what [`take_spool`] returned.
pub(crate) fn discard_spool(spool: &Path) -> Result<(), AgentError> {
    let taken = taken_path(spool);
    match fs::remove_file(&taken) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::on("remove", &taken)(error).into()),
        _ => Ok(()),
    }
}

/// Where calls are between being taken and discarded.
fn taken_path(spool: &Path) -> PathBuf {
    spool.with_extension("taken.jsonl")
}

/// The lock that writers and taker share.
fn lock_path(spool: &Path) -> PathBuf {
    spool.with_extension("lock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[test]
    fn calls_are_there_until_discarded_and_a_torn_line_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("hooks.spool.jsonl");
        assert_eq!(take_spool(&spool).unwrap(), []);
        let call = |millis, event| HookCall::new(event, br#"{"tool_use_id":"t"}"#, Time::from_millis(millis));
        append_to_spool(&spool, &call(2, "Stop")).unwrap();
        open_log(&spool).unwrap().write_all(b"{\"at\":\"2026\n").unwrap();
        assert_eq!(take_spool(&spool).unwrap(), [call(2, "Stop")]);
        append_to_spool(&spool, &call(1, "PreToolUse")).unwrap();
        assert_eq!(take_spool(&spool).unwrap(), [call(1, "PreToolUse"), call(2, "Stop")]);
        discard_spool(&spool).unwrap();
        discard_spool(&spool).unwrap();
        assert_eq!(take_spool(&spool).unwrap(), []);
    }
}
