//! Terminals: the pseudo-terminal an agent runs in, the tmux server its pane is shown by, the recording of what it
//! wrote, and the state of its screen.
//!
//! The only user of the crates for PTYs, tmux and screen parsing. It knows nothing of workers or agents: a program, a
//! size and an environment go in; bytes, an exit and facts about the screen come out. Nothing here reads this
//! process's environment, and nothing an agent writes can make it keep more than a bounded amount of memory.

mod mode;
mod program;
mod pty;
mod recording;
mod rules;
mod screen;
mod tmux;

use serde::{Deserialize, Serialize};

pub(crate) use mode::{RESTORE_MODES, RawMode, bracketed_paste, terminal_size};
pub(crate) use program::ProgramError;
pub(crate) use pty::{ExitInfo, Pty, PtyCommand, PtyError};
pub(crate) use recording::{CastHeader, Recording, RecordingError, plain_text};
pub(crate) use rules::{ScreenRule, matching_rule};
pub(crate) use screen::Screen;
pub(crate) use tmux::{AttachStep, NewTmuxSession, Tmux, TmuxError, session_name, session_name_of};

/// Size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    /// Width.
    pub(crate) columns: u16,
    /// Height.
    pub(crate) rows: u16,
}

impl Size {
    /// The size before anyone looks: wide enough for programs, and a screen of it takes 150 kB, which each supervisor has.
    pub(crate) const UNSEEN: Self = Self { columns: 120, rows: 40 };
    /// Larger than any real terminal; keeps a screen's memory bounded whatever a client claims.
    const MAX: u16 = 1000;

    /// The size with both sides brought into 1 to 1000.
    pub(crate) fn clamped(self) -> Self {
        Self { columns: self.columns.clamp(1, Self::MAX), rows: self.rows.clamp(1, Self::MAX) }
    }
}
