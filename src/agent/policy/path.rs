//! Where a path really leads.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Symbolic links followed before a path counts as a loop, as in the kernel (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// Where an absolute path leads: links followed and `..` taken as the kernel takes them as far as the path exists,
/// the rest by its words. A loop of links leads nowhere: `/`, which no rule allows.
pub(in crate::agent) fn resolve(path: &Path) -> PathBuf {
    let mut rest: VecDeque<OsString> = words(path);
    let mut done = PathBuf::from("/");
    let mut links = 0;
    while let Some(word) = rest.pop_front() {
        if word == ".." {
            done.pop();
            continue;
        }
        done.push(&word);
        if let Ok(link) = std::fs::read_link(&done) {
            links += 1;
            if links > LINK_LIMIT {
                return PathBuf::from("/");
            }
            done.pop();
            if link.is_absolute() {
                done = PathBuf::from("/");
            }
            for word in words(&link).into_iter().rev() {
                rest.push_front(word);
            }
        }
    }
    done
}

/// The names and `..` of a path.
fn words(path: &Path) -> VecDeque<OsString> {
    let word = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(word).collect()
}
