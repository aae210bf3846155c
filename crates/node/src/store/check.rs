//! `postrider store check`: writes to the store, reads from it, measures it, and reports problems.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use postrider_store::kv::{Error, FileStats, Store};
use postrider_store::{FORMAT, Probe, StoreContents};
use rustix::fs::{Access, access};
use tokio::time::Instant;

use super::measure::{self, Measurements, Percentiles};
use super::{disk, exists, format, open, print_line};
use crate::cli::StoreCheck;
use crate::config::{self, Config};
use crate::run::seed;

/// A slower median commit gets a warning, because every event waits for a commit.
const SLOW_COMMIT: Duration = Duration::from_millis(50);

/// Where FoundationDB's client finds its certificate: an environment variable, or else this file.
const TLS_CERTIFICATE: (&str, &str) = ("FDB_TLS_CERTIFICATE_FILE", "/etc/foundationdb/cert.pem");

/// A check of the configured store.
#[derive(Debug)]
struct Check<'a> {
    config: &'a Config,
    /// Problems that prevent a node from using the store.
    errors: Vec<String>,
    /// Problems that a node can work with.
    warnings: Vec<String>,
}

/// Checks the store, and prints the results as they come.
///
/// # Errors
/// If the store cannot be opened.
pub async fn run(options: StoreCheck) -> Result<ExitCode> {
    let config = Config::load(options.config.as_deref(), std::env::vars_os())?;
    let mut check = Check { config: &config, errors: Vec::new(), warnings: Vec::new() };
    check.describe_store()?;
    let started = Instant::now();
    let engine = match open(&config.store, check.dir()).await {
        Ok(engine) => engine,
        Err(error) => {
            // A warning may explain the error.
            check.print_warnings();
            return Err(error);
        }
    };
    let store = Store::new(engine, seed()?);
    let probe = Probe::new(store.clone(), seed()?);
    let checked = tokio::select! {
        checked = check.run_checks(&store, &probe, started) => checked,
        _ = tokio::signal::ctrl_c() => {
            // A write in flight may still commit after this; a leftover test key is harmless.
            let _ = probe.remove().await;
            print_line("interrupted");
            return Ok(ExitCode::FAILURE);
        }
    };
    // Remove the test keys even if a check failed.
    let result = checked.and(probe.remove().await);
    if let Err(error) = result {
        check.errors.push(check.error_message(&error));
    }
    Ok(check.finish())
}

impl<'a> Check<'a> {
    fn dir(&self) -> &'a Path {
        &self.config.node.data_dir
    }

    /// Prints the location of the store before opening it, and checks the disk or the cluster file.
    fn describe_store(&mut self) -> Result<()> {
        match &self.config.store {
            config::Store::Embedded => {
                let dir = self.dir();
                print_row("store", &format!("embedded, in {}", dir.display()));
                let missing = "no store exists yet; `postrider serve` creates one";
                ensure!(exists(dir), "{}: {missing}", dir.display());
                self.check_disk();
            }
            config::Store::FoundationDb(foundationdb) => {
                let config::FoundationDb { cluster_file, subspace } = foundationdb;
                let file = cluster_file.display();
                print_row(
                    "store",
                    &format!("foundationdb, subspace {subspace}, cluster file {file}"),
                );
                self.check_cluster_file(cluster_file);
            }
        }
        Ok(())
    }

    fn check_disk(&mut self) {
        match disk::of(self.dir()) {
            Ok(disk::Disk { free, total, network }) => {
                print_row(
                    "disk",
                    &format!("{} free of {}", format::size(free), format::size(total)),
                );
                if let Some(name) = network {
                    self.errors.push(format!(
                        "the data directory is on a network file system ({name}), where the embedded \
                         store loses data; set [node] data_dir to a local disk"
                    ));
                }
            }
            Err(error) => self.warnings.push(format!("cannot inspect the disk: {error}")),
        }
    }

    fn check_cluster_file(&mut self, file: &Path) {
        // Opening the store reports errors in the file.
        let Ok(content) = std::fs::read_to_string(file) else { return };
        let coordinators = coordinators(&content);
        if !coordinators.is_empty() {
            print_row("coordinators", &coordinators.join(", "));
        }
        let want_tls = coordinators.iter().any(|address| address.ends_with(":tls"));
        let has_certificate =
            std::env::var_os(TLS_CERTIFICATE.0).is_some() || Path::new(TLS_CERTIFICATE.1).exists();
        if want_tls && !has_certificate {
            self.warnings.push(
                "the coordinators require TLS, but no client certificate is configured; set \
                 FDB_TLS_CERTIFICATE_FILE, FDB_TLS_KEY_FILE and FDB_TLS_CA_FILE, as for the node"
                    .to_owned(),
            );
        }
        if let [one] = coordinators[..] {
            self.warnings.push(format!(
                "{one} is the only coordinator: if its host fails, the cluster is unavailable. Use \
                 three on three hosts: `fdbcli --exec 'coordinators auto'`"
            ));
        }
        let dir = file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
        if [file, dir].iter().any(|path| access(*path, Access::WRITE_OK).is_err()) {
            self.warnings.push(format!(
                "{} or its directory is not writable: FoundationDB's client cannot update the file \
                 when the coordinators change, and nodes started later cannot find them",
                file.display()
            ));
        }
    }

    async fn run_checks(
        &mut self,
        store: &Store,
        probe: &Probe,
        started: Instant,
    ) -> Result<(), Error> {
        let found = probe.contents().await?;
        print_row("responded", &format!("after {}", format::time(started.elapsed())));
        print_row("records", &describe(&found));
        self.check_records(&found);
        match write_and_read_back(probe).await? {
            Some(error) => self.errors.push(error),
            None => print_row("test keys", "written, read and removed"),
        }
        let measured = measure::measure(probe).await?;
        print_measurements(&measured);
        self.warnings.extend(self.slow_commit_warning(&measured));
        if let Some(FileStats { used, free }) = store.stats().file {
            let (used, free) = (format::size(used), format::size(free));
            print_row("data file", &format!("{used}, of which {free} are free and used again"));
        }
        if store.is_nearly_full() {
            self.errors.push(
                "the disk is nearly full, so new events are rejected; free some space on it, or delete \
                 data of accounts"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Checks whether a node with this configuration would start on the records.
    fn check_records(&mut self, found: &StoreContents) {
        self.errors.extend(why_unusable(self.config, found));
    }

    fn slow_commit_warning(&self, measured: &Measurements) -> Option<String> {
        let p50 = measured.commits.p50;
        if p50 <= SLOW_COMMIT {
            return None;
        }
        let why = match &self.config.store {
            config::Store::Embedded => format!(
                "the disk of {} is slow to sync, or busy; server-grade disks take a few milliseconds",
                self.dir().display()
            ),
            config::Store::FoundationDb(foundationdb) => format!(
                "the network to FoundationDB or its disks are slow or busy; run `fdbcli -C {} --exec \
                 'status details'` to find out",
                foundationdb.cluster_file.display()
            ),
        };
        Some(format!("a commit takes {}, and every event waits for one: {why}", format::time(p50)))
    }

    /// The error, with advice.
    fn error_message(&self, error: &Error) -> String {
        let next = match (error, &self.config.store) {
            (Error::Unavailable(_), config::Store::Embedded) => {
                "another process holds the write lock, or the disk is failing; see the logs of the \
                 nodes and of the kernel"
                    .to_owned()
            }
            (Error::Unavailable(_), config::Store::FoundationDb(foundationdb)) => {
                format!("run `fdbcli -C {} --exec status`", foundationdb.cluster_file.display())
            }
            (Error::Full, _) => "free some space".to_owned(),
            (Error::Corrupt(_), _) => "restore the store from a backup".to_owned(),
            (Error::Conflict | Error::MaybeCommitted | Error::TooLarge { .. }, _) => {
                "this is a bug in Postrider; please report it".to_owned()
            }
        };
        format!("{error}: {next}")
    }

    fn print_warnings(&self) {
        for warning in &self.warnings {
            print_line(&format!("warning: {warning}"));
        }
    }

    fn finish(&self) -> ExitCode {
        self.print_warnings();
        for error in &self.errors {
            print_line(&format!("error: {error}"));
        }
        if !self.errors.is_empty() {
            return ExitCode::FAILURE;
        }
        print_line("ok");
        ExitCode::SUCCESS
    }
}

/// Why a node with this configuration would refuse to start on the records.
pub fn why_unusable(config: &Config, found: &StoreContents) -> Option<String> {
    let wanted = config.cluster.shards;
    match *found {
        StoreContents::Records { format, .. } if format > FORMAT => Some(format!(
            "the records were written by a newer version; this one reads formats up to {FORMAT}. \
             Use the newer version"
        )),
        StoreContents::Records { shards, .. } if shards != wanted => Some(format!(
            "the store was created with {shards} shards, but {wanted} are configured; set \
             [cluster] shards = {shards}"
        )),
        StoreContents::UnfinishedCopy { .. } => Some(
            "the copy is incomplete, so no node can start; run the same `postrider store copy` \
             again"
                .to_owned(),
        ),
        StoreContents::Empty | StoreContents::Records { .. } => None,
    }
}

/// Writes, reads and removes a test key. Returns a description of any misbehaviour.
async fn write_and_read_back(probe: &Probe) -> Result<Option<String>, Error> {
    for value in [&b"one"[..], b"two"] {
        let value = Bytes::from_static(value);
        probe.write(0, value.clone()).await?;
        if probe.read(0).await? != Some(value) {
            return Ok(Some("a read returned a different value than was written".to_owned()));
        }
    }
    probe.remove().await?;
    let left = probe.read(0).await?;
    Ok(left.map(|_| "a removed key still exists".to_owned()))
}

/// What a store contains.
pub fn describe(found: &StoreContents) -> String {
    match found {
        StoreContents::Empty => "none".to_owned(),
        StoreContents::Records { format, shards } => format!("format {format}, {shards} shards"),
        StoreContents::UnfinishedCopy { rows, of } => {
            format!(
                "{} of {} rows copied from another store",
                format::count(*rows),
                format::count(*of)
            )
        }
    }
}

fn print_measurements(Measurements { reads, commits, per_second }: &Measurements) {
    let times = |Percentiles { p50, p99, max }: &Percentiles| {
        let [p50, p99, max] = [p50, p99, max].map(|time| format::time(*time));
        format!("p50 {p50}, p99 {p99}, max {max} ({} samples)", measure::SEQUENTIAL)
    };
    print_row("read", &times(reads));
    print_row("commit", &times(commits));
    let per_second = format::count(per_second.round() as u64);
    print_row("throughput", &format!("{per_second}/s with {} in parallel", measure::CONCURRENCY));
}

/// The addresses in a cluster file, which has the form `description:id@address,address`.
fn coordinators(content: &str) -> Vec<&str> {
    let mut lines = content.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let line = lines.find(|line| !line.is_empty());
    let addresses = line.and_then(|line| line.split_once('@')).map(|(_, addresses)| addresses);
    addresses.map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default()
}

fn print_row(name: &str, text: &str) {
    print_line(&format!("{name:12}  {text}"));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_store::Records;
    use postrider_store::kv::memory::{Faults, Memory};

    use super::*;

    fn check(config: &Config) -> Check<'_> {
        Check { config, errors: Vec::new(), warnings: Vec::new() }
    }

    fn foundationdb_config(cluster_file: &Path) -> Config {
        let (cluster_file, subspace) = (cluster_file.to_owned(), config::Subspace::default());
        let foundationdb = config::FoundationDb { cluster_file, subspace };
        Config { store: config::Store::FoundationDb(foundationdb), ..Config::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_working_store_is_ok() {
        let config = Config::default();
        let mut check = check(&config);
        let delay = Duration::from_millis(4);
        let memory = Memory::with_faults(1, Faults { delay, ..Faults::default() });
        let store = Store::new(Arc::new(memory), 1);
        Records::open(store.clone(), config.cluster.shards).await.unwrap();
        let probe = Probe::new(store.clone(), 1);
        check.run_checks(&store, &probe, Instant::now()).await.unwrap();
        assert!(check.errors.is_empty() && check.warnings.is_empty(), "{check:?}");
        assert_eq!(check.finish(), ExitCode::SUCCESS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_gets_a_warning_with_the_cause() {
        for (config, cause) in [
            (Config::default(), "slow to sync"),
            (foundationdb_config(Path::new("/etc/f")), "fdbcli -C /etc/f"),
        ] {
            let mut check = check(&config);
            let delay = Duration::from_millis(200);
            let memory = Memory::with_faults(1, Faults { delay, ..Faults::default() });
            let store = Store::new(Arc::new(memory), 1);
            let probe = Probe::new(store.clone(), 1);
            check.run_checks(&store, &probe, Instant::now()).await.unwrap();
            let [warning] = &check.warnings[..] else { panic!("{check:?}") };
            assert!(warning.contains(cause), "{warning}");
            assert_eq!(check.finish(), ExitCode::SUCCESS, "a warning is not an error");
        }
    }

    #[test]
    fn records_that_a_node_would_refuse_are_errors() {
        let config = Config::default();
        for (found, next) in [
            (StoreContents::Records { format: FORMAT, shards: 7 }, "set [cluster] shards = 7"),
            (StoreContents::Records { format: FORMAT + 1, shards: 256 }, "Use the newer version"),
            (StoreContents::UnfinishedCopy { rows: 1, of: 2 }, "store copy"),
        ] {
            let mut check = check(&config);
            check.check_records(&found);
            assert!(check.errors.len() == 1 && check.errors[0].contains(next), "{check:?}");
            assert_eq!(check.finish(), ExitCode::FAILURE);
        }
        let mut check = check(&config);
        check.check_records(&StoreContents::Records { format: 1, shards: 256 });
        check.check_records(&StoreContents::Empty);
        assert!(check.errors.is_empty(), "{check:?}");
    }

    #[test]
    fn a_missing_store_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.node.data_dir = dir.path().to_owned();
        let error = check(&config).describe_store().unwrap_err().to_string();
        assert!(error.contains("no store exists yet"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cluster_file_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fdb.cluster");
        std::fs::write(&file, "# ours\n\na:b@10.0.0.1:4500,10.0.0.2:4500\n").unwrap();
        let config = foundationdb_config(&file);
        let mut two = check(&config);
        two.describe_store().unwrap();
        assert!(two.warnings.is_empty(), "{two:?}");
        std::fs::write(&file, "a:b@10.0.0.1:4500").unwrap();
        let mut one = check(&config);
        one.describe_store().unwrap();
        assert!(one.warnings[0].contains("10.0.0.1:4500 is the only coordinator"), "{one:?}");
        let two = "# ours\na:b@10.0.0.1:4500:tls, 10.0.0.2:4500:tls # two";
        assert_eq!(coordinators(two), ["10.0.0.1:4500:tls", "10.0.0.2:4500:tls"]);
        assert_eq!(coordinators("nonsense"), [""; 0]);
    }
}
