//! The disk that holds an embedded store.

use std::io;
use std::path::Path;

use rustix::fs::{StatFs, statfs};

/// Network file systems by Linux's magic number. LMDB's memory map and locks do not work on them.
const NETWORK_FILE_SYSTEMS: [(u64, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
];

/// The size and type of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Free space in bytes.
    pub free: u64,
    /// Total size in bytes.
    pub total: u64,
    /// The name of the file system if it is a network file system.
    pub network: Option<&'static str>,
}

/// The disk that contains `path`.
pub fn of(path: &Path) -> io::Result<Disk> {
    Ok(read(statfs(path)?))
}

fn read(statfs: StatFs) -> Disk {
    let block = u64::try_from(statfs.f_bsize).unwrap_or(0);
    // Signedness and width differ between architectures; the magic number has 32 bits.
    let kind = statfs.f_type as u64 & 0xffff_ffff;
    Disk {
        free: statfs.f_bavail.saturating_mul(block),
        total: statfs.f_blocks.saturating_mul(block),
        network: NETWORK_FILE_SYSTEMS
            .iter()
            .find(|(number, _)| *number == kind)
            .map(|(_, name)| *name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_size_and_detects_network_file_systems() {
        let dir = tempfile::tempdir().unwrap();
        let disk = of(dir.path()).unwrap();
        assert!(disk.free <= disk.total && disk.total > 0 && disk.network.is_none(), "{disk:?}");
        let mut nfs = statfs(dir.path()).unwrap();
        nfs.f_type = 0x6969;
        assert_eq!(read(nfs).network, Some("NFS"));
        assert!(of(Path::new("/nowhere/at/all")).is_err());
    }
}
