//! Going by the configuration as it is now.

use super::{Engine, News};
use crate::coordinator::failure::Failure;
use crate::model::event::{SwarmEvent, SwarmRecord};

impl Engine<'_> {
    /// Reads the configuration again when its files changed. One that cannot be used leaves all as it was.
    pub(super) fn reread(&mut self) -> Result<(), Failure> {
        let config = self.control.project().config_files();
        if config == self.config {
            return Ok(());
        }
        self.config = config;
        let lands = self.request.lands;
        let read = self.control.anew(lands).and_then(|control| Ok((control.rules(lands)?, control)));
        let (used, why) = match read {
            Ok((rules, control)) => {
                self.rules = rules;
                self.jobs.work_by(control.beside());
                self.changed = Some(control);
                (true, "holds from now on".to_owned())
            }
            Err(failure) => {
                let text = failure.chain.join(": ");
                (false, format!("cannot be used, so the one from before holds: {text}"))
            }
        };
        self.face.tell(&News::Said(&format!("the configuration changed and {why}")));
        self.note(SwarmRecord::now(&self.record.id, SwarmEvent::Reconfigured { used, why }))
    }
}
