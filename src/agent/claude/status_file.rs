//! The file in which the program says what it is doing: `sessions/PID.json` in its folder.
//!
//! It is undocumented (seen in 2.1.197 and 2.1.329), so it is a hint: anything odd about it is silence.

use serde_json::Value;

use super::folder::Folder;
use crate::model::Time;

/// What the program says it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatusFile {
    /// Doing what.
    pub(super) doing: Doing,
    /// Since when.
    pub(super) at: Time,
}

/// What the program says it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    /// A turn is under way.
    Busy,
    /// It listens.
    Idle,
    /// It needs a person, for this.
    Waiting(String),
}

/// Reads the file of a process.
pub(super) fn read(folder: &Folder, pid: u32) -> Option<StatusFile> {
    parse(&std::fs::read(folder.status_file(pid)).ok()?)
}

/// Reads the file's content.
fn parse(bytes: &[u8]) -> Option<StatusFile> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let doing = match value.get("status")?.as_str()? {
        "busy" => Doing::Busy,
        "idle" => Doing::Idle,
        "waiting" => Doing::Waiting(value.get("waitingFor").and_then(Value::as_str).unwrap_or("an answer").to_owned()),
        _ => return None,
    };
    Some(StatusFile { doing, at: Time::from_millis(value.get("statusUpdatedAt")?.as_i64()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_and_oddities_are_silence() {
        let waiting = br#"{"pid":1,"status":"waiting","waitingFor":"permission prompt","statusUpdatedAt":5}"#;
        let doing = Doing::Waiting("permission prompt".to_owned());
        assert_eq!(parse(waiting), Some(StatusFile { doing, at: Time::from_millis(5) }));
        for odd in ["", "{", "[]", r#"{"status":"new","statusUpdatedAt":5}"#, r#"{"status":"busy"}"#] {
            assert_eq!(parse(odd.as_bytes()), None, "{odd}");
        }
    }
}
