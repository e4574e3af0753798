//! Reads what `git merge-tree --write-tree -z --messages --stdin` prints (git-merge-tree(1), "OUTPUT" and
//! "INPUT FORMAT").
//!
//! A record is `STATUS NUL TREE NUL`, the conflicted index entries, an empty field, the messages, an empty field.
//! Only the fields made for programs are read: entries, and the short message types that git promises to keep.

use std::collections::BTreeMap;

use super::{ConflictFile, ConflictKind, Forecast};

/// The stages that one path has among the conflicted index entries.
#[derive(Debug, Default)]
struct Stages {
    /// Mode and object by stage, from 1.
    entries: [Option<(String, String)>; 3],
}

/// Reads the record of one merge; `None` when the output does not have that shape.
pub(super) fn parse_forecast(output: &[u8]) -> Option<Forecast> {
    next_record(&mut fields(output))
}

/// Reads the records of several merges, up to the first that is not whole.
pub(super) fn parse_forecasts(output: &[u8]) -> Vec<Forecast> {
    let mut fields = fields(output);
    std::iter::from_fn(|| next_record(&mut fields)).collect()
}

/// The fields of an output.
fn fields(output: &[u8]) -> impl Iterator<Item = String> {
    output.split(|byte| *byte == 0).map(|field| String::from_utf8_lossy(field).into_owned())
}

/// Reads the fields of the next record.
fn next_record(fields: &mut impl Iterator<Item = String>) -> Option<Forecast> {
    let is_clean = match fields.next()?.as_str() {
        "1" => true,
        "0" => false,
        _ => return None,
    };
    let tree = fields.next()?;
    let mut stages: BTreeMap<String, Stages> = BTreeMap::new();
    loop {
        let entry = fields.next()?;
        if entry.is_empty() {
            break;
        }
        note_entry(&mut stages, &entry)?;
    }
    let mut kinds: BTreeMap<String, ConflictKind> = BTreeMap::new();
    let mut messages = Vec::new();
    loop {
        let paths = fields.next()?;
        if paths.is_empty() {
            break;
        }
        let paths: Vec<_> = (0..paths.parse::<usize>().ok()?).map_while(|_| fields.next()).collect();
        let (kind, text) = (fields.next()?, fields.next()?);
        if let Some(kind) = kind.strip_prefix("CONFLICT (").and_then(|kind| kind.strip_suffix(')')) {
            note_conflict(&mut kinds, &stages, paths.first()?, kind);
            messages.push(text.trim_end().to_owned());
        }
    }
    if is_clean {
        return Some(Forecast::Clean { tree });
    }
    for (path, stages) in &stages {
        kinds.entry(path.clone()).or_insert_with(|| stages.kind());
    }
    let files = kinds.into_iter().map(|(path, kind)| ConflictFile { path, kind }).collect();
    Some(Forecast::Conflict { tree, files, messages })
}

/// Notes `MODE OBJECT STAGE TAB PATH`.
fn note_entry(stages: &mut BTreeMap<String, Stages>, entry: &str) -> Option<()> {
    let (meta, path) = entry.split_once('\t')?;
    let mut meta = meta.split(' ');
    let (mode, object, stage) = (meta.next()?, meta.next()?, meta.next()?.parse::<usize>().ok()?);
    let slot = stages.entry(path.to_owned()).or_default().entries.get_mut(stage.checked_sub(1)?)?;
    *slot = Some((mode.to_owned(), object.to_owned()));
    Some(())
}

/// Notes a message; a file that is binary has a second, vaguer message that must not win.
fn note_conflict(
    kinds: &mut BTreeMap<String, ConflictKind>,
    stages: &BTreeMap<String, Stages>,
    path: &str,
    kind: &str,
) {
    let kind = match kind {
        "contents" => stages.get(path).map_or(ConflictKind::Content, Stages::kind),
        "binary" => ConflictKind::Binary,
        "modify/delete" => ConflictKind::ModifyDelete,
        "rename/rename" => ConflictKind::RenameRename,
        "rename/delete" => ConflictKind::RenameDelete,
        "rename involved in collision" => ConflictKind::RenameAdd,
        "file/directory" => ConflictKind::FileDirectory,
        "distinct modes" => ConflictKind::Type,
        kind if kind.starts_with("directory rename") || kind.starts_with("implicit dir") => {
            ConflictKind::DirectoryRename
        }
        kind if kind.contains("submodule") => ConflictKind::Submodule,
        _ => ConflictKind::Other,
    };
    let known = kinds.entry(path.to_owned()).or_insert(kind);
    if known.rank() < kind.rank() {
        *known = kind;
    }
}

impl Stages {
    /// What the stages alone say.
    fn kind(&self) -> ConflictKind {
        match &self.entries {
            [_, Some(ours), Some(theirs)] if ours.1 == theirs.1 && ours.0 != theirs.0 => ConflictKind::Mode,
            [None, Some(_), Some(_)] => ConflictKind::AddAdd,
            [Some(_), Some(_), None] | [Some(_), None, Some(_)] => ConflictKind::ModifyDelete,
            [Some(_), Some(_), Some(_)] => ConflictKind::Content,
            _ => ConflictKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_short_is_not_a_forecast() {
        assert_eq!(parse_forecast(b"1\0aa\0\0\0"), Some(Forecast::Clean { tree: "aa".to_owned() }));
        assert!(parse_forecast(b"0\0aa\x00100644 bb 1\tx").is_none());
        assert!(parse_forecast(b"").is_none());
    }

    #[test]
    fn the_kind_that_says_most_names_a_file() {
        let output = b"0\0bb\x00100644 c 2\tboth\x00100644 d 3\tboth\0\0\
            1\0both\0Auto-merging\0Auto-merging both\n\x001\0both\0CONFLICT (contents)\0CONFLICT (add/add): x\n\0\0";
        let Some(Forecast::Conflict { files, messages, .. }) = parse_forecast(output) else { panic!() };
        assert_eq!(files[..], [ConflictFile { path: "both".to_owned(), kind: ConflictKind::AddAdd }]);
        assert_eq!(messages[..], ["CONFLICT (add/add): x"]);
    }
}
