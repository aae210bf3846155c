//! The data directory. It is locked by one node, or shared by the nodes of a cluster on this host,
//! and holds the operator key and the cluster cookie.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use postrider_domain::ids::BootId;
use rand::TryRng;
use rand::rngs::SysRng;

/// The allowed length of a secret, in characters.
const SECRET_LENGTH: RangeInclusive<usize> = 16..=512;

/// A locked data directory. The operating system releases the locks when the process ends, however
/// it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The file that records the boot ID of the node's last run.
    last_run_file: PathBuf,
    _locks: Vec<File>,
}

/// How a node locks its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// For one node.
    Exclusive,
    /// For the nodes of one cluster, each with a unique name.
    Shared,
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be created or written.
    #[error("cannot write to the data directory {}", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    /// Another process has locked it.
    #[error("the data directory {} is in use by another node ({holder})", path.display())]
    Locked {
        path: PathBuf,
        /// The node's name and process ID, from the lock file.
        holder: String,
    },
    /// A secret file is invalid, or cannot be read or created.
    #[error("{} {problem}", path.display())]
    Secret { path: PathBuf, problem: String },
}

/// A secret that is stored in a file.
pub struct SecretFile {
    pub text: String,
    pub path: PathBuf,
    /// Whether this process created it.
    pub is_new: bool,
}

impl DataDir {
    /// Locks the directory for a node, creating it if necessary.
    ///
    /// # Errors
    /// If the directory cannot be written, is locked exclusively, or is in use by a node of the
    /// same name.
    pub fn open(path: &Path, node: &str, mode: LockMode) -> Result<Self, DataDirError> {
        let not_writable = |source| DataDirError::NotWritable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(not_writable)?;
        let (locks, last_run_file) = match mode {
            LockMode::Exclusive => {
                (vec![lock(path, "node.lock", node, LockMode::Exclusive)?], path.join("node.run"))
            }
            LockMode::Shared => (
                vec![
                    lock(path, "node.lock", node, LockMode::Shared)?,
                    lock(path, &format!("node-{node}.lock"), node, LockMode::Exclusive)?,
                ],
                path.join(format!("node-{node}.run")),
            ),
        };
        Ok(Self { path: path.to_owned(), last_run_file, _locks: locks })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The boot ID of this node's previous run, if known. The locks show that it has ended.
    #[must_use]
    pub fn last_run(&self) -> Option<BootId> {
        std::fs::read_to_string(&self.last_run_file).ok()?.trim().parse().ok()
    }

    /// Records the boot ID of this run.
    ///
    /// # Errors
    /// If the file cannot be written. The previous record is kept then.
    pub fn record_run(&self, run: BootId) -> io::Result<()> {
        let temporary = self.last_run_file.with_extension("run.new");
        std::fs::write(&temporary, format!("{run}\n"))?;
        File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &self.last_run_file)
    }

    /// The operator key. The first start creates it, readable only by the owner.
    ///
    /// # Errors
    /// If it cannot be read or created, or is invalid (see [`check_secret`]).
    pub fn operator_key(&self) -> Result<SecretFile, DataDirError> {
        self.secret("operator.key", "pro_")
    }

    /// The cookie shared by the cluster's nodes on this host. The first node creates it.
    ///
    /// # Errors
    /// As for [`Self::operator_key`].
    pub fn cookie(&self) -> Result<SecretFile, DataDirError> {
        self.secret("cluster.cookie", "")
    }

    fn secret(&self, file: &str, prefix: &str) -> Result<SecretFile, DataDirError> {
        let path = self.path.join(file);
        let problem = |problem: String| DataDirError::Secret { path: path.clone(), problem };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let text = check_secret(&text)
                    .map_err(|rule| {
                        problem(format!("{rule}; remove the file to generate a new one"))
                    })?
                    .to_owned();
                Ok(SecretFile { text, path, is_new: false })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = new_secret(prefix)
                    .map_err(|error| problem(format!("cannot be generated: {error}")))?;
                match write_private(&path, &text) {
                    Ok(()) => Ok(SecretFile { text, path, is_new: true }),
                    // Another node has created it in the meantime.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        self.secret(file, prefix)
                    }
                    Err(error) => Err(problem(format!("cannot be written: {error}"))),
                }
            }
            Err(error) => Err(problem(format!("cannot be read: {error}"))),
        }
    }
}

/// The secret in `text`, without the line ending. The error message continues a sentence that
/// begins with the source of the text.
///
/// # Errors
/// If it is not 16 to 512 visible ASCII characters. Clients send the operator key in a header.
pub fn check_secret(text: &str) -> Result<&str, String> {
    let key = text.strip_suffix('\n').unwrap_or(text);
    let key = key.strip_suffix('\r').unwrap_or(key);
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible && SECRET_LENGTH.contains(&key.len()) {
        return Ok(key);
    }
    let (min, max) = SECRET_LENGTH.into_inner();
    Err(format!("must be one line of {min} to {max} visible ASCII characters"))
}

/// Locks a file in the directory. For an exclusive lock, writes the holder into the file.
fn lock(path: &Path, file: &str, node: &str, mode: LockMode) -> Result<File, DataDirError> {
    let not_writable = |source| DataDirError::NotWritable { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path.join(file)).map_err(not_writable)?;
    let locked = match mode {
        LockMode::Exclusive => file.try_lock(),
        LockMode::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim().to_owned();
            return Err(DataDirError::Locked { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(not_writable(source)),
    }
    let holder = match mode {
        LockMode::Exclusive => format!("{node}, process {}\n", std::process::id()),
        LockMode::Shared => "nodes of a cluster\n".to_owned(),
    };
    // On a full disk the node must still start, so that it can finish pending deliveries.
    let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
    Ok(file)
}

fn new_secret(prefix: &str) -> io::Result<String> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes)))
}

/// Writes to a temporary file and links it into place: readers never see a partial secret, and of
/// several processes that do this at once, exactly one succeeds.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let unique = SysRng.try_next_u64().map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{unique:x}.new"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file
        .write_all(format!("{text}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&temporary, path));
    std::fs::remove_file(&temporary)?;
    written?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use postrider_domain::ids::IdGenerator;
    use postrider_domain::time::Timestamp;

    use super::*;

    #[test]
    fn an_exclusive_lock_admits_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), "one", LockMode::Exclusive).unwrap();
        let second = DataDir::open(dir.path(), "two", LockMode::Exclusive).unwrap_err();
        assert!(second.to_string().contains("one, process"), "{second}");
        drop(first);
        DataDir::open(dir.path(), "two", LockMode::Exclusive).unwrap();
    }

    #[test]
    fn nodes_of_a_cluster_share_the_directory_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name, mode| DataDir::open(dir.path(), name, mode);
        let one = open("one", LockMode::Shared).unwrap();
        let _two = open("two", LockMode::Shared).unwrap();
        assert!(open("one", LockMode::Shared).unwrap_err().to_string().contains("one, process"));
        assert!(open("three", LockMode::Exclusive).unwrap_err().to_string().contains("cluster"));
        drop(one);
        open("one", LockMode::Shared).unwrap();
    }

    #[test]
    fn nodes_that_start_at_once_get_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: String| DataDir::open(dir.path(), &name, LockMode::Shared).unwrap();
        let dirs: Vec<_> = (0..8).map(|n| open(format!("n{n}"))).collect();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let make = |dir: &DataDir| dir.operator_key().unwrap().text;
            let threads: Vec<_> = dirs.iter().map(|dir| scope.spawn(move || make(dir))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let files = std::fs::read_dir(dir.path()).unwrap().flatten();
        let temporary = files.filter(|file| file.file_name().to_string_lossy().contains("new"));
        assert_eq!(temporary.count(), 0);
    }

    #[test]
    fn the_key_is_persistent_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = DataDir::open(dir.path(), "one", LockMode::Exclusive).unwrap();
        let first = dir.operator_key().unwrap();
        let again = dir.operator_key().unwrap();
        assert!(first.is_new && !again.is_new);
        assert_eq!(first.text, again.text);
        assert_eq!(std::fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&first.path, "\n").unwrap();
        assert!(matches!(dir.operator_key(), Err(DataDirError::Secret { .. })));
    }

    #[test]
    fn a_secret_is_one_line_of_visible_characters() {
        let key = "0123456789abcdef";
        for text in [key.to_owned(), format!("{key}\n"), format!("{key}\r\n")] {
            assert_eq!(check_secret(&text), Ok(key));
        }
        assert!(check_secret(&"k".repeat(512)).is_ok());
        for text in ["", "\n", &key[1..], &format!("{key} {key}"), &format!("{key}\n{key}\n")] {
            assert!(check_secret(text).is_err(), "{text:?}");
        }
        for text in [format!("{key}é"), format!("{key}\0"), "k".repeat(513)] {
            assert!(check_secret(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_node_records_its_last_run() {
        let dir = tempfile::tempdir().unwrap();
        let one = DataDir::open(dir.path(), "one", LockMode::Shared).unwrap();
        let two = DataDir::open(dir.path(), "two", LockMode::Shared).unwrap();
        assert_eq!(one.last_run(), None);
        let id_generator = IdGenerator::new(1);
        let runs: [BootId; 2] =
            [id_generator.id(Timestamp::EPOCH), id_generator.id(Timestamp::EPOCH)];
        for run in runs {
            one.record_run(run).unwrap();
            assert_eq!((one.last_run(), two.last_run()), (Some(run), None));
        }
        std::fs::write(&one.last_run_file, "garbage").unwrap();
        assert_eq!(one.last_run(), None);
    }

    #[test]
    fn a_file_at_the_path_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = DataDir::open(&path, "one", LockMode::Exclusive).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            !error.to_string().contains(&cause),
            "the message repeats its cause: {error}: {cause}"
        );
    }
}
