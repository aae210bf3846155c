//! The cluster file, which lists FoundationDB's coordinators: one line
//! `description:id@address:port[:tls],…`, and comments.
//!
//! The client library reads it itself, and rewrites it when the coordinators change. It is parsed
//! here only to report mistakes early and clearly.

use std::io;
use std::path::{Path, PathBuf};

/// The maximum number of bytes read.
const MAX_LENGTH: u64 = 64 * 1024;

/// A valid cluster file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFile {
    path: String,
    coordinators: Vec<String>,
}

/// Why a cluster file is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ClusterFileError {
    /// The file cannot be read.
    #[error(
        "the FoundationDB cluster file {} cannot be read ({cause}). Copy /etc/foundationdb/fdb.cluster \
         from a host of the FoundationDB cluster, and set [store] cluster_file to the copy", path.display()
    )]
    Unreadable {
        /// The file's path.
        path: PathBuf,
        /// The I/O error.
        cause: io::Error,
    },
    /// The file is not a cluster file.
    #[error(
        "{} is not a FoundationDB cluster file: {problem}. The file has one line, such as \
         name:id@10.0.0.1:4500,10.0.0.2:4500; copy it unchanged from the FoundationDB cluster", path.display()
    )]
    Malformed {
        /// The file's path.
        path: PathBuf,
        /// What is wrong with the file.
        problem: String,
    },
}

impl ClusterFile {
    /// Reads and validates the file.
    ///
    /// # Errors
    /// If the file cannot be read or is not a cluster file.
    pub fn read(path: &Path) -> Result<Self, ClusterFileError> {
        let text = read(path)
            .map_err(|cause| ClusterFileError::Unreadable { path: path.to_owned(), cause })?;
        let malformed = |problem| ClusterFileError::Malformed { path: path.to_owned(), problem };
        let name = path.to_str().filter(|name| !name.contains('\0'));
        let name = name.ok_or_else(|| malformed("its path is not UTF-8".to_owned()))?;
        let coordinators = parse(&text).map_err(malformed)?;
        Ok(Self { path: name.to_owned(), coordinators })
    }

    /// The coordinators' addresses.
    #[must_use]
    pub fn coordinators(&self) -> &[String] {
        &self.coordinators
    }

    pub(super) fn path_text(&self) -> &str {
        &self.path
    }
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_LENGTH).read_to_string(&mut text)?;
    Ok(text)
}

/// Parses the coordinators from the text of a cluster file.
fn parse(text: &str) -> Result<Vec<String>, String> {
    let bare = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut lines = bare.filter(|line| !line.is_empty());
    let line = lines.next().ok_or("it is empty")?;
    if lines.next().is_some() {
        return Err("it has more than one line".to_owned());
    }
    let (cluster, addresses) = line.split_once('@').ok_or("the '@' is missing")?;
    let (description, id) = cluster.split_once(':').ok_or("the ':' before the '@' is missing")?;
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !is_word(description) || !is_word(id) {
        return Err("the part before the '@' is not description:id".to_owned());
    }
    addresses.split(',').map(coordinator).collect()
}

fn coordinator(text: &str) -> Result<String, String> {
    let text = text.trim();
    let address = text.strip_suffix(":tls").unwrap_or(text);
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is not an address with a port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_cluster_files_are_parsed() {
        assert_eq!(parse("a:b@127.0.0.1:4500\n"), Ok(vec!["127.0.0.1:4500".to_owned()]));
        let text =
            "# DO NOT EDIT!\n\nprod_1:x9@10.0.0.1:4500:tls,[::1]:4501,fdb.example.com:4500 # us";
        let expected = ["10.0.0.1:4500:tls", "[::1]:4501", "fdb.example.com:4500"];
        assert_eq!(parse(text), Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn invalid_cluster_files_are_rejected_with_a_reason() {
        for text in [
            "",
            "# only a comment",
            "garbage",
            "a@127.0.0.1:4500",
            ":@127.0.0.1:4500",
            "a b:c@127.0.0.1:4500",
            "a:b@",
            "a:b@127.0.0.1",
            "a:b@127.0.0.1:0",
            "a:b@127.0.0.1:70000",
            "a:b@:4500",
            "a:b@127.0.0.1:4500,",
            "a:b@127.0.0.1:4500\nc:d@127.0.0.1:4501",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_unreadable_file_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = dir.path().join("fdb.cluster");
        let error = ClusterFile::read(&path).expect_err("it is not there").to_string();
        assert!(error.contains("Copy") && error.contains("fdb.cluster"), "{error}");
        std::fs::write(&path, [0xff, 0xfe]).expect("written");
        assert!(ClusterFile::read(&path).is_err());
        assert!(ClusterFile::read(dir.path()).is_err());
    }
}
