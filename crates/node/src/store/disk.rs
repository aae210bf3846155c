//! The disk that an embedded store lies on.

use std::io;
use std::path::Path;

use rustix::fs::{StatFs, statfs};

/// File systems that other hosts share, by the number that Linux gives them. LMDB's map and its
/// locks do not work there.
const OF_A_NETWORK: [(u64, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
];

/// What is to be known of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that may still be written.
    pub free: u64,
    /// All bytes.
    pub total: u64,
    /// What it is called if it is shared over a network.
    pub network: Option<&'static str>,
}

/// The disk that `path` lies on.
///
/// # Errors
/// When the operating system does not tell.
pub fn of(path: &Path) -> io::Result<Disk> {
    Ok(read(statfs(path)?))
}

fn read(statfs: StatFs) -> Disk {
    let block = u64::try_from(statfs.f_bsize).unwrap_or(0);
    // Its sign and its width differ between architectures; the number has 32 bits.
    let kind = statfs.f_type as u64 & 0xffff_ffff;
    Disk {
        free: statfs.f_bavail.saturating_mul(block),
        total: statfs.f_blocks.saturating_mul(block),
        network: OF_A_NETWORK.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_and_a_network_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let disk = of(dir.path()).unwrap();
        assert!(disk.free <= disk.total && disk.total > 0 && disk.network.is_none(), "{disk:?}");
        let mut nfs = statfs(dir.path()).unwrap();
        nfs.f_type = 0x6969;
        assert_eq!(read(nfs).network, Some("NFS"));
        assert!(of(Path::new("/nowhere/at/all")).is_err());
    }
}
