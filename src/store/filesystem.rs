//! Refuses file systems on which the database cannot be shared between processes.

use std::path::Path;

use super::StoreError;
use crate::files::FileError;

/// Magic numbers of file systems whose memory maps and locks are not shared with their other users (statfs(2) and
/// the kernel's `linux/magic.h`). FUSE is not among them: it may be local, and nothing here tells.
const NETWORK: [(u32, &str); 13] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0116_1970, "GFS2"),
];

/// Fails when `folder` is on a network file system.
pub(super) fn refuse_network(folder: &Path) -> Result<(), StoreError> {
    let stat = rustix::fs::statfs(folder)
        .map_err(|errno| FileError::on("look at the file system of", folder)(errno.into()))?;
    match network_name(stat.f_type) {
        Some(kind) => Err(StoreError::NetworkFileSystem { path: folder.to_owned(), kind }),
        None => Ok(()),
    }
}

/// The name of a network file system by its magic number, which some platforms sign-extend.
fn network_name(magic: i64) -> Option<&'static str> {
    let magic = u32::try_from(magic & 0xFFFF_FFFF).ok()?;
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_magic() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(i64::from(0xFF53_4D42_u32 as i32)), Some("CIFS"));
        assert_eq!(network_name(0xEF53), None, "ext4");
        assert_eq!(network_name(0x9123_683E), None, "btrfs");
        assert_eq!(network_name(0x0102_1994), None, "tmpfs");
    }

    #[test]
    fn the_temp_folder_is_local() {
        refuse_network(&std::env::temp_dir()).unwrap();
    }
}
