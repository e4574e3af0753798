//! The repository of `swarm demo`: a small project with four tickets, two of which conflict, and an agent whose model is a
//! script.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::control::Control;
use super::failure::Failure;
use super::project::Call;
use crate::files::{self, Access, FileError};
use crate::git::Repository;

/// Tickets of the demo, in the order they are spawned.
pub(crate) const TICKETS: [&str; 4] = ["search", "total", "counts", "docs"];

/// Files of the project, committed: path, text, whether it is a program.
const PROJECT: [(&str, &str, bool); 6] = [
    ("README.md", include_str!("../../templates/demo/repo/README.md"), false),
    ("inventory.sh", include_str!("../../templates/demo/repo/inventory.sh"), true),
    ("lib/stock.sh", include_str!("../../templates/demo/repo/lib/stock.sh"), false),
    ("test.sh", include_str!("../../templates/demo/repo/test.sh"), true),
    ("tests/stock.sh", include_str!("../../templates/demo/repo/tests/stock.sh"), false),
    ("tests/usage.sh", include_str!("../../templates/demo/repo/tests/usage.sh"), false),
];

/// What `swarm` works with, committed too: as in a person's repository.
const SWARM: [(&str, &str, bool); 7] = [
    (".swarm/config.yaml", include_str!("../../templates/demo/config.yaml"), false),
    (".swarm/agents/demo-agent.md", include_str!("../../templates/demo/demo-agent.md"), false),
    (".swarm/demo-model.yaml", include_str!("../../templates/demo/model.yaml"), false),
    (".swarm/tickets/search.md", include_str!("../../templates/demo/tickets/search.md"), false),
    (".swarm/tickets/total.md", include_str!("../../templates/demo/tickets/total.md"), false),
    (".swarm/tickets/counts.md", include_str!("../../templates/demo/tickets/counts.md"), false),
    (".swarm/tickets/docs.md", include_str!("../../templates/demo/tickets/docs.md"), false),
];

/// Makes the repository in `folder`, which does not exist yet, and takes control of it. Its gate command counts as
/// trusted: it is ours. [`Control::forget_trust`] takes that back.
pub(crate) fn make(folder: &Path, call: &Call) -> Result<Control, Failure> {
    for (path, text, is_program) in PROJECT.into_iter().chain(SWARM) {
        let path = folder.join(path);
        files::write_atomically(&path, text.as_bytes(), Access::Shared)?;
        if is_program {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).map_err(FileError::on("make executable", &path))?;
        }
    }
    Repository::create(folder, "main", ("Swarm Demo", "demo@example.com"), "Start an inventory")?;
    Control::open(Call { directory: folder.to_owned(), ..call.clone() }, true)
}
