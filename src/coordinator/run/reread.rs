//! Going by the configuration as it is now.

use std::time::{Duration, Instant};

use super::{Engine, News, Rules};
use crate::coordinator::control::Control;
use crate::coordinator::failure::Failure;
use crate::coordinator::project::ConfigFiles;
use crate::model::event::{SwarmEvent, SwarmRecord};

/// How often a configuration that cannot be used is tried again: what is in its way may be elsewhere than in its files, as
/// the trust in its commands is.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(3);

/// How long files stay as they are before they count: whoever writes one empties it first, and an empty one says something
/// else than either.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);

/// The configuration as it was read last.
pub(super) struct Configuration {
    files: ConfigFiles,
    /// How its files were when they were seen to differ from those, and when that was.
    changing: Option<(ConfigFiles, Instant)>,
    /// Why it cannot be used, and when that was found; `None` where it holds.
    unusable: Option<(String, Instant)>,
}

impl Configuration {
    /// The one by which a control was made.
    pub(super) fn of(control: &Control) -> Self {
        Self { files: control.project().config_files(), changing: None, unusable: None }
    }
}

impl Engine<'_> {
    /// Reads the configuration again when its files changed, or when the last one could not be used. One that cannot be
    /// used leaves all as it was.
    pub(super) fn reread(&mut self) -> Result<(), Failure> {
        let files = self.control.project().config_files();
        let is_due = |(_, at): &(String, Instant)| at.elapsed() >= TRY_AGAIN_EVERY;
        match &self.configuration.changing {
            _ if files == self.configuration.files => {
                self.configuration.changing = None;
                if !self.configuration.unusable.as_ref().is_some_and(is_due) {
                    return Ok(());
                }
            }
            Some((seen, at)) if *seen == files && at.elapsed() >= WRITTEN_WITHIN => {}
            Some((seen, _)) if *seen == files => return Ok(()),
            _ => {
                self.configuration.changing = Some((files, Instant::now()));
                return Ok(());
            }
        }
        let lands = self.request.lands;
        let read = self.control.anew(lands).and_then(|control| {
            control.agent_facts()?;
            Ok((control.rules(lands)?, control))
        });
        let before = self.configuration.unusable.take().map(|(why, _)| why);
        self.configuration.files = files;
        let (used, why) = match read {
            Ok((rules, control)) => {
                // How many may run is heard right after this.
                self.rules = Rules { scaled: self.rules.scaled.take(), ..rules };
                self.jobs.work_by(control.beside());
                self.changed = Some(control);
                // What was missing may be there now.
                self.setbacks.clear();
                self.nodes.bags.try_again();
                (true, "holds from now on".to_owned())
            }
            Err(failure) => {
                let text = failure.chain.join(": ");
                self.configuration.unusable = Some((text.clone(), Instant::now()));
                if before.as_ref() == Some(&text) {
                    return Ok(());
                }
                (false, format!("cannot be used, so the one from before holds: {text}"))
            }
        };
        self.face.tell(&News::Said(&format!("the configuration changed and {why}")));
        self.note(SwarmRecord::now(&self.record.id, SwarmEvent::Reconfigured { used, why }))
    }
}
