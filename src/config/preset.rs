//! Presets of agent programs: those that come with `swarm`, and files that replace them or add others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Problem};
use super::folder::read_folder;
use super::yaml::{Node, parse_yaml};
use crate::model::preset::Preset;

/// The presets that come with `swarm`: names and texts.
const BUILT_IN: [(&str, &str); 4] = [
    ("aider", include_str!("../../templates/presets/aider.yaml")),
    ("codex", include_str!("../../templates/presets/codex.yaml")),
    ("gemini", include_str!("../../templates/presets/gemini.yaml")),
    ("opencode", include_str!("../../templates/presets/opencode.yaml")),
];

/// Texts of presets by name; each is read when an agent names it.
#[derive(Debug, Default)]
pub(super) struct Presets {
    /// Path for messages, and text; `None` is one that is not UTF-8.
    texts: BTreeMap<String, (PathBuf, Option<String>)>,
}

impl Presets {
    /// Gathers the built-in ones, those in `presets/` of the user's folder, and those of the project; later ones
    /// replace earlier ones of the same name.
    ///
    /// # Errors
    /// When the user's folder cannot be read.
    pub(super) fn load(user_folder: Option<&Path>, project: &[(PathBuf, String)]) -> Result<Self, ConfigError> {
        let mut presets = Self::default();
        for (name, text) in BUILT_IN {
            presets.add(PathBuf::from(format!("templates/presets/{name}.yaml")), Some(text.to_owned()));
        }
        if let Some(folder) = user_folder {
            for (path, bytes) in read_folder(&folder.join("presets"), &["yaml", "yml"])? {
                presets.add(path, String::from_utf8(bytes).ok());
            }
        }
        for (path, text) in project {
            presets.add(path.clone(), Some(text.clone()));
        }
        Ok(presets)
    }

    /// Adds a file unless it is a note for people.
    fn add(&mut self, path: PathBuf, text: Option<String>) {
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if let Some(name) = path.file_stem().filter(|_| is_yaml) {
            self.texts.insert(name.to_string_lossy().into_owned(), (path, text));
        }
    }

    /// The preset that `node` of an agent names.
    ///
    /// # Errors
    /// When there is none of that name, with those there are, or its file is broken.
    pub(super) fn get(&self, name: &str, node: &Node) -> Result<Box<Preset>, Problem> {
        let Some((path, text)) = self.texts.get(name) else {
            let names: Vec<_> = self.texts.keys().map(String::as_str).collect();
            let problem = node.place.problem(format!("`preset`: there is no preset `{name}`"));
            return Err(problem.with_valid("known presets", &names, name));
        };
        match read(name, path, text.as_deref()) {
            Ok(preset) => Ok(Box::new(preset)),
            Err(ConfigError::Text(problem)) => Err(problem),
            Err(other) => Err(node.place.problem(format!("`preset`: {other}"))),
        }
    }

    /// All presets whose files can be read, by name.
    pub(super) fn all(&self) -> Vec<Preset> {
        let read = |(name, (path, text)): (&String, &(PathBuf, Option<String>))| read(name, path, text.as_deref()).ok();
        self.texts.iter().filter_map(read).collect()
    }
}

/// Reads one preset.
fn read(name: &str, path: &Path, text: Option<&str>) -> Result<Preset, ConfigError> {
    let Some(text) = text else {
        return Err(Problem::in_file(path.display().to_string(), "not UTF-8 text").into());
    };
    let mut preset: Preset = parse_yaml(path, text)?;
    name.clone_into(&mut preset.name);
    Ok(preset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::preset::VerifiedBy;

    #[test]
    fn every_built_in_preset_can_be_read() {
        let presets = Presets::load(None, &[]).unwrap();
        for (name, (path, text)) in &presets.texts {
            let preset = read(name, path, text.as_deref()).unwrap();
            assert!(!preset.headless.start.is_empty() && !preset.install.is_empty(), "{name}");
            let has_events = preset.headless.stream != preset.events.is_empty();
            assert!(has_events, "{name}: a stream without rules, or rules without a stream");
        }
        let run: Vec<_> = presets.all().into_iter().filter(|preset| preset.verified.by == VerifiedBy::Run).collect();
        assert_eq!(run.iter().map(|preset| preset.name.as_str()).collect::<Vec<_>>(), ["codex", "gemini", "opencode"]);
    }

    #[test]
    fn a_project_replaces_a_preset_by_a_file_of_its_name() {
        let text = "title: Ours\nprogram: ours\ninstall: make ours\nverified: {by: documentation, version: '1'}\n\
                    headless: {start: ['{prompt_file}']}\n";
        let files = [
            (PathBuf::from(".swarm/presets/codex.yaml"), text.to_owned()),
            (PathBuf::from(".swarm/presets/README.md"), "# not one".to_owned()),
        ];
        let all = Presets::load(None, &files).unwrap().all();
        assert_eq!(all.len(), BUILT_IN.len());
        let codex = all.iter().find(|preset| preset.name == "codex").unwrap();
        assert_eq!((codex.program.as_str(), codex.version.as_slice()), ("ours", &["--version".to_owned()][..]));
    }
}
