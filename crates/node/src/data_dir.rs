//! The data directory: writable, used by one node or by those of one cluster on this host, with the
//! operator's key in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use postrider_domain::ids::BootId;
use rand::TryRng;
use rand::rngs::SysRng;

/// How many characters an operator key may have.
const OPERATOR_KEY_LENGTH: RangeInclusive<usize> = 16..=512;

/// A data directory that this process may use. The locks end with the process, however that ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Where the node's last run is noted.
    last_run: PathBuf,
    _locks: Vec<File>,
}

/// Who uses a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// This node and no other.
    Alone,
    /// The nodes of one cluster, each with a name of its own.
    Shared,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or written.
    #[error("the data directory {} cannot be written", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another node runs on it.
    #[error("the data directory {} is used by another running node ({holder})", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What that node wrote of itself.
        holder: String,
    },
    /// A secret in it is unusable.
    #[error("{} {problem}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// A secret that stands in a file of its own, and whether it was made just now.
pub struct SecretFile {
    /// The secret.
    pub text: String,
    /// Where it stands.
    pub path: PathBuf,
    /// Whether this start made it.
    pub is_new: bool,
}

impl DataDir {
    /// Takes the directory for the node of this name, and makes it if it is not there.
    ///
    /// # Errors
    /// When it cannot be written, or another node has it that does not share it, or that has the
    /// same name.
    pub fn take(path: &Path, node: &str, usage: Use) -> Result<Self, DataDirError> {
        let not_writable = |source| DataDirError::NotWritable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(not_writable)?;
        let (locks, last_run) = match usage {
            Use::Alone => (vec![lock(path, "node.lock", node, Use::Alone)?], path.join("node.run")),
            Use::Shared => (
                vec![
                    lock(path, "node.lock", node, Use::Shared)?,
                    lock(path, &format!("node-{node}.lock"), node, Use::Alone)?,
                ],
                path.join(format!("node-{node}.run")),
            ),
        };
        Ok(Self { path: path.to_owned(), last_run, _locks: locks })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node's run before this one, which is over, as the locks tell. None if it is not known.
    #[must_use]
    pub fn last_run(&self) -> Option<BootId> {
        std::fs::read_to_string(&self.last_run).ok()?.trim().parse().ok()
    }

    /// Notes this run.
    ///
    /// # Errors
    /// When it cannot be written; what was noted before stands then.
    pub fn note_run(&self, run: BootId) -> io::Result<()> {
        let draft = self.last_run.with_extension("run.new");
        std::fs::write(&draft, format!("{run}\n"))?;
        File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, &self.last_run)
    }

    /// The operator's key, made at the first start and readable by the owner alone.
    ///
    /// # Errors
    /// When it cannot be read, is no key (see [`check_operator_key`]), or cannot be made.
    pub fn operator_key(&self) -> Result<SecretFile, DataDirError> {
        self.secret("operator.key", "pro_")
    }

    /// The cookie of the cluster's nodes on this host, made by the first of them.
    ///
    /// # Errors
    /// As for the operator's key.
    pub fn cookie(&self) -> Result<SecretFile, DataDirError> {
        self.secret("cluster.cookie", "")
    }

    fn secret(&self, file: &str, prefix: &str) -> Result<SecretFile, DataDirError> {
        let path = self.path.join(file);
        let problem = |problem: String| DataDirError::Secret { path: path.clone(), problem };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let text = check_operator_key(&text)
                    .map_err(|rule| {
                        problem(format!("{rule}; remove the file to have a new one made"))
                    })?
                    .to_owned();
                Ok(SecretFile { text, path, is_new: false })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = new_secret(prefix)
                    .map_err(|error| problem(format!("cannot be made: {error}")))?;
                match write_private(&path, &text) {
                    Ok(()) => Ok(SecretFile { text, path, is_new: true }),
                    // Another node has made one meanwhile.
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

/// The key in `text`, which is one line and may end as one. The error continues a sentence that
/// begins with where the text stands.
///
/// # Errors
/// When it is not 16 to 512 visible ASCII characters, which is what a client can send in a header.
pub fn check_operator_key(text: &str) -> Result<&str, String> {
    let key = text.strip_suffix('\n').unwrap_or(text);
    let key = key.strip_suffix('\r').unwrap_or(key);
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible && OPERATOR_KEY_LENGTH.contains(&key.len()) {
        return Ok(key);
    }
    let (least, most) = OPERATOR_KEY_LENGTH.into_inner();
    Err(format!("must be one line of {least} to {most} visible ASCII characters"))
}

/// Locks a file of the directory, and writes into it who has it if that is one process.
fn lock(path: &Path, file: &str, node: &str, usage: Use) -> Result<File, DataDirError> {
    let not_writable = |source| DataDirError::NotWritable { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path.join(file)).map_err(not_writable)?;
    let locked = match usage {
        Use::Alone => file.try_lock(),
        Use::Shared => file.try_lock_shared(),
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
    let holder = match usage {
        Use::Alone => format!("{node}, process {}\n", std::process::id()),
        Use::Shared => "nodes of a cluster\n".to_owned(),
    };
    // On a full disk the node must still start, so that it can finish what it has.
    let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
    Ok(file)
}

fn new_secret(prefix: &str) -> io::Result<String> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes)))
}

/// Writes beside and links, so that no half of a secret is ever found, and of several processes
/// that do this at once one succeeds.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let unique = SysRng.try_next_u64().map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{unique:x}.new"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(format!("{text}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    written?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use postrider_domain::ids::Mint;
    use postrider_domain::time::Timestamp;

    use super::*;

    #[test]
    fn one_node_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::take(dir.path(), "one", Use::Alone).unwrap();
        let second = DataDir::take(dir.path(), "two", Use::Alone).unwrap_err();
        assert!(second.to_string().contains("one, process"), "{second}");
        drop(first);
        DataDir::take(dir.path(), "two", Use::Alone).unwrap();
    }

    #[test]
    fn nodes_of_a_cluster_share_it_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let take = |name, usage| DataDir::take(dir.path(), name, usage);
        let one = take("one", Use::Shared).unwrap();
        let _two = take("two", Use::Shared).unwrap();
        assert!(take("one", Use::Shared).unwrap_err().to_string().contains("one, process"));
        assert!(take("three", Use::Alone).unwrap_err().to_string().contains("cluster"));
        drop(one);
        take("one", Use::Shared).unwrap();
    }

    #[test]
    fn of_those_who_make_the_key_at_once_all_have_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: String| DataDir::take(dir.path(), &name, Use::Shared).unwrap();
        let dirs: Vec<_> = (0..8).map(|n| open(format!("n{n}"))).collect();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let make = |dir: &DataDir| dir.operator_key().unwrap().text;
            let threads: Vec<_> = dirs.iter().map(|dir| scope.spawn(move || make(dir))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let left = std::fs::read_dir(dir.path()).unwrap().flatten();
        let drafts = left.filter(|file| file.file_name().to_string_lossy().contains("new"));
        assert_eq!(drafts.count(), 0);
    }

    #[test]
    fn the_key_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = DataDir::take(dir.path(), "one", Use::Alone).unwrap();
        let first = dir.operator_key().unwrap();
        let again = dir.operator_key().unwrap();
        assert!(first.is_new && !again.is_new);
        assert_eq!(first.text, again.text);
        assert_eq!(std::fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&first.path, "\n").unwrap();
        assert!(matches!(dir.operator_key(), Err(DataDirError::Secret { .. })));
    }

    #[test]
    fn a_key_is_one_line_of_visible_characters() {
        let key = "0123456789abcdef";
        for text in [key.to_owned(), format!("{key}\n"), format!("{key}\r\n")] {
            assert_eq!(check_operator_key(&text), Ok(key));
        }
        assert!(check_operator_key(&"k".repeat(512)).is_ok());
        for text in ["", "\n", &key[1..], &format!("{key} {key}"), &format!("{key}\n{key}\n")] {
            assert!(check_operator_key(text).is_err(), "{text:?}");
        }
        for text in [format!("{key}é"), format!("{key}\0"), "k".repeat(513)] {
            assert!(check_operator_key(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_last_run_is_remembered_for_each_node() {
        let dir = tempfile::tempdir().unwrap();
        let one = DataDir::take(dir.path(), "one", Use::Shared).unwrap();
        let two = DataDir::take(dir.path(), "two", Use::Shared).unwrap();
        assert_eq!(one.last_run(), None);
        let mint = Mint::new();
        let runs: [BootId; 2] = [mint.id(Timestamp::EPOCH), mint.id(Timestamp::EPOCH)];
        for run in runs {
            one.note_run(run).unwrap();
            assert_eq!((one.last_run(), two.last_run()), (Some(run), None));
        }
        std::fs::write(&one.last_run, "garbage").unwrap();
        assert_eq!(one.last_run(), None);
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = DataDir::take(&path, "one", Use::Alone).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(!error.to_string().contains(&cause), "printed twice: {error}: {cause}");
    }
}
