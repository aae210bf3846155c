//! `[store]`: which engine keeps the records, and where.

use std::fmt;
use std::path::PathBuf;

use super::reader::Reader;
use super::{PLAIN_NAME, is_plain_name};

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In the data directory, for the nodes of one host.
    Embedded,
    /// In FoundationDB, for the nodes of any host that reaches it.
    FoundationDb(FoundationDb),
}

/// A place in FoundationDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundationDb {
    /// The file that says where its coordinators are.
    pub cluster_file: PathBuf,
    /// What all keys begin with.
    pub subspace: Subspace,
}

/// The name of an installation within FoundationDB: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subspace(String);

/// Whether this build has the engine.
pub const HAS_FOUNDATIONDB: bool = cfg!(feature = "foundationdb");
/// What to do when it has not.
pub const NO_FOUNDATIONDB: &str = "this build has no FoundationDB engine, which needs \
    FoundationDB's client library; build it with `cargo build --release --package postrider-node \
    --features foundationdb` (see \"FoundationDB\" in the README), or use \"embedded\"";

/// Where FoundationDB's packages put the file.
const CLUSTER_FILE: &str = "/etc/foundationdb/fdb.cluster";
const SUBSPACE: &str = "postrider";

impl Store {
    /// What was given, for a build that has the engine of FoundationDB, or one that has not.
    pub(super) fn build(reader: &mut Reader, has_foundationdb: bool) -> Self {
        let complaints = reader.complaints();
        let kind = reader.option("store", "kind", |kind: String| match kind.as_str() {
            "embedded" => Ok(Kind::Embedded),
            "foundationdb" if has_foundationdb => Ok(Kind::FoundationDb),
            "foundationdb" => Err(NO_FOUNDATIONDB),
            _ => Err("must be \"embedded\" or \"foundationdb\""),
        });
        let cluster_file = reader.option("store", "cluster_file", super::path);
        let subspace = reader.option("store", "subspace", |text: String| Subspace::parse(&text));
        if reader.complaints() > complaints {
            return Self::Embedded;
        }
        match kind.unwrap_or(Kind::Embedded) {
            Kind::Embedded => {
                for key in ["cluster_file", "subspace"] {
                    if reader.has("store", key) {
                        reader.complain("store", key, OF_FOUNDATIONDB.to_owned());
                    }
                }
                Self::Embedded
            }
            Kind::FoundationDb => Self::FoundationDb(FoundationDb {
                cluster_file: cluster_file.unwrap_or_else(|| PathBuf::from(CLUSTER_FILE)),
                subspace: subspace.unwrap_or_default(),
            }),
        }
    }
}

const OF_FOUNDATIONDB: &str = "belongs to kind = \"foundationdb\" alone";

enum Kind {
    Embedded,
    FoundationDb,
}

impl Subspace {
    /// The subspace of this name.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if is_plain_name(text) { Ok(Self(text.to_owned())) } else { Err(PLAIN_NAME) }
    }

    /// The name.
    #[must_use]
    #[cfg_attr(not(feature = "foundationdb"), allow(dead_code, reason = "for the engine"))]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Subspace {
    fn default() -> Self {
        Self(SUBSPACE.to_owned())
    }
}

impl fmt::Display for Subspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
