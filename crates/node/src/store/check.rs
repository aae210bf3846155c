//! `postrider store check`: writes, reads and measures the store, and says what is wrong.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use postrider_store::kv::{Error, Store};
use postrider_store::{FORMAT, Found, Probe};
use rustix::fs::{Access, access};
use tokio::time::Instant;

use super::measure::{self, Measured, Times};
use super::{disk, is_in, open, say, text};
use crate::cli::StoreCheck;
use crate::config::{self, Config};
use crate::run::seed;

/// A commit that takes longer is worth a warning: every event waits for one.
const SLOW: Duration = Duration::from_millis(50);

/// Where FoundationDB's client finds its certificate: a variable, or this file.
const TLS_CERTIFICATE: (&str, &str) = ("FDB_TLS_CERTIFICATE_FILE", "/etc/foundationdb/cert.pem");

/// Looks at the store of a configuration.
#[derive(Debug)]
struct Check<'a> {
    config: &'a Config,
    /// What keeps a node from working on it.
    wrong: Vec<String>,
    /// What does not, and should not be so.
    warnings: Vec<String>,
}

/// Checks, and prints as it goes.
///
/// # Errors
/// When the store cannot be opened.
pub async fn run(options: StoreCheck) -> Result<ExitCode> {
    let config = Config::load(options.config.as_deref(), std::env::vars_os())?;
    let mut check = Check { config: &config, wrong: Vec::new(), warnings: Vec::new() };
    check.introduce()?;
    let started = Instant::now();
    let engine = match open(&config.store, check.dir()).await {
        Ok(engine) => engine,
        Err(error) => {
            // They may well be why.
            check.warn();
            return Err(error);
        }
    };
    let store = Store::new(engine, seed()?);
    let probe = Probe::new(store.clone(), seed()?);
    let examined = tokio::select! {
        examined = check.examine(&store, &probe, started) => examined,
        _ = tokio::signal::ctrl_c() => {
            // What was under way may come after this: it says nothing, and nobody minds it.
            let _ = probe.remove().await;
            say("interrupted");
            return Ok(ExitCode::FAILURE);
        }
    };
    // What failed will say so again; what matters is that nothing is left.
    let ended = examined.and(probe.remove().await);
    if let Err(error) = ended {
        check.wrong.push(check.explain(&error));
    }
    Ok(check.conclude())
}

impl<'a> Check<'a> {
    fn dir(&self) -> &'a Path {
        &self.config.node.data_dir
    }

    /// Says where the store is, before anything is tried.
    fn introduce(&mut self) -> Result<()> {
        match &self.config.store {
            config::Store::Embedded => {
                let dir = self.dir();
                row("store", &format!("embedded, in {}", dir.display()));
                let there_is_none = "there is no store yet; `postrider serve` makes one";
                ensure!(is_in(dir), "{}: {there_is_none}", dir.display());
                self.look_at_the_disk();
            }
            config::Store::FoundationDb(place) => {
                let config::FoundationDb { cluster_file, subspace } = place;
                let file = cluster_file.display();
                row("store", &format!("foundationdb, subspace {subspace}, cluster file {file}"));
                self.look_at_the_cluster_file(cluster_file);
            }
        }
        Ok(())
    }

    fn look_at_the_disk(&mut self) {
        match disk::of(self.dir()) {
            Ok(disk::Disk { free, total, network }) => {
                row("disk", &format!("{} free of {}", text::size(free), text::size(total)));
                if let Some(name) = network {
                    self.wrong.push(format!(
                        "the data directory lies on a network file system ({name}), where the \
                         embedded store loses data: give [node] data_dir a local disk"
                    ));
                }
            }
            Err(error) => self.warnings.push(format!("the disk cannot be looked at: {error}")),
        }
    }

    fn look_at_the_cluster_file(&mut self, file: &Path) {
        // What is wrong with it is said when it is opened.
        let Ok(content) = std::fs::read_to_string(file) else { return };
        let coordinators = coordinators(&content);
        if !coordinators.is_empty() {
            row("coordinators", &coordinators.join(", "));
        }
        let want_tls = coordinators.iter().any(|address| address.ends_with(":tls"));
        let has_certificate =
            std::env::var_os(TLS_CERTIFICATE.0).is_some() || Path::new(TLS_CERTIFICATE.1).exists();
        if want_tls && !has_certificate {
            self.warnings.push(
                "the coordinators speak TLS, and there is no certificate to show them: set \
                 FDB_TLS_CERTIFICATE_FILE, FDB_TLS_KEY_FILE and FDB_TLS_CA_FILE, as for the node"
                    .to_owned(),
            );
        }
        if let [one] = coordinators[..] {
            self.warnings.push(format!(
                "{one} is the only coordinator: without its host, nothing works. Have three, on \
                 three hosts: `fdbcli --exec 'coordinators auto'`"
            ));
        }
        let dir = file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
        if [file, dir].iter().any(|path| access(*path, Access::WRITE_OK).is_err()) {
            self.warnings.push(format!(
                "{} or its directory cannot be written: when the coordinators change, FoundationDB's \
                 client cannot note it there, and a node that is started later does not find them",
                file.display()
            ));
        }
    }

    async fn examine(
        &mut self,
        store: &Store,
        probe: &Probe,
        started: Instant,
    ) -> Result<(), Error> {
        let found = probe.find().await?;
        row("answers", &format!("after {}", text::time(started.elapsed())));
        row("records", &describe(&found));
        self.judge(&found);
        match try_out(probe).await? {
            Some(wrong) => self.wrong.push(wrong),
            None => row("trial", "written, read and removed"),
        }
        let measured = measure::measure(probe).await?;
        print(&measured);
        self.warnings.extend(self.slowness(&measured));
        if store.is_nearly_full() {
            self.wrong.push("the disk is full, and new events are refused: make room".to_owned());
        }
        Ok(())
    }

    /// Whether a node of this configuration would start on what is there.
    fn judge(&mut self, found: &Found) {
        let wanted = self.config.cluster.shards;
        let wrong = match *found {
            Found::Records { format, .. } if format > FORMAT => format!(
                "a newer version wrote the records; this one reads format {FORMAT} and older: use \
                 that version"
            ),
            Found::Records { shards, .. } if shards != wanted => format!(
                "the store has {shards} shards, fixed when it was created, and {wanted} are \
                 configured: set [cluster] shards = {shards}"
            ),
            Found::UnfinishedCopy { .. } => "no node starts on a part of a store: run the same \
                                             `postrider store copy` again, to its end"
                .to_owned(),
            Found::Nothing | Found::Records { .. } => return,
        };
        self.wrong.push(wrong);
    }

    fn slowness(&self, measured: &Measured) -> Option<String> {
        let p50 = measured.commits.p50;
        if p50 <= SLOW {
            return None;
        }
        let why = match &self.config.store {
            config::Store::Embedded => format!(
                "the disk of {} is slow to sync, or busy; one that is made for servers takes a few \
                 milliseconds",
                self.dir().display()
            ),
            config::Store::FoundationDb(place) => format!(
                "FoundationDB is far away, or its disks are slow or busy; `fdbcli -C {} --exec \
                 'status details'` says which",
                place.cluster_file.display()
            ),
        };
        Some(format!("a commit takes {}, and every event waits for one: {why}", text::time(p50)))
    }

    /// What went wrong, and what to do about it.
    fn explain(&self, error: &Error) -> String {
        let next = match (error, &self.config.store) {
            (Error::Unavailable(_), config::Store::Embedded) => {
                "another process keeps the others out, or the disk fails; the nodes' logs and the \
                 kernel's say more"
                    .to_owned()
            }
            (Error::Unavailable(_), config::Store::FoundationDb(place)) => {
                format!("look at `fdbcli -C {} --exec status`", place.cluster_file.display())
            }
            (Error::Full, _) => "make room".to_owned(),
            (Error::Corrupt(_), _) => "restore it from a backup".to_owned(),
            (Error::Conflict | Error::MaybeCommitted | Error::TooLarge { .. }, _) => {
                "this is a flaw of Postrider's, please report it".to_owned()
            }
        };
        format!("{error}: {next}")
    }

    fn warn(&self) {
        for warning in &self.warnings {
            say(&format!("warning: {warning}"));
        }
    }

    fn conclude(&self) -> ExitCode {
        self.warn();
        for wrong in &self.wrong {
            say(&format!("wrong: {wrong}"));
        }
        if !self.wrong.is_empty() {
            return ExitCode::FAILURE;
        }
        say("ok");
        ExitCode::SUCCESS
    }
}

/// What the store does otherwise than it must.
async fn try_out(probe: &Probe) -> Result<Option<String>, Error> {
    for value in [&b"one"[..], b"two"] {
        let value = Bytes::from_static(value);
        probe.write(0, value.clone()).await?;
        if probe.read(0).await? != Some(value) {
            return Ok(Some("what was written is not what is read".to_owned()));
        }
    }
    probe.remove().await?;
    let left = probe.read(0).await?;
    Ok(left.map(|_| "what was removed is still there".to_owned()))
}

fn describe(found: &Found) -> String {
    match found {
        Found::Nothing => "none yet".to_owned(),
        Found::Records { format, shards } => format!("format {format}, {shards} shards"),
        Found::UnfinishedCopy { rows, of } => {
            format!("{} of {} rows of another store", text::count(*rows), text::count(*of))
        }
    }
}

fn print(Measured { reads, commits, per_second }: &Measured) {
    let times = |Times { p50, p99, max }: &Times| {
        let [p50, p99, max] = [p50, p99, max].map(|time| text::time(*time));
        format!("p50 {p50}, p99 {p99}, max {max}, of {}", measure::ONE_BY_ONE)
    };
    row("one read", &times(reads));
    row("one commit", &times(commits));
    let per_second = text::count(per_second.round() as u64);
    row("commits", &format!("{per_second}/s, {} at a time", measure::AT_ONCE));
}

/// The addresses in a cluster file: `description:id@address,address`, beside comments.
fn coordinators(content: &str) -> Vec<&str> {
    let mut lines = content.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let line = lines.find(|line| !line.is_empty());
    let addresses = line.and_then(|line| line.split_once('@')).map(|(_, addresses)| addresses);
    addresses.map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default()
}

fn row(name: &str, text: &str) {
    say(&format!("{name:12}  {text}"));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_store::Records;
    use postrider_store::kv::memory::{Faults, Memory};

    use super::*;

    fn check(config: &Config) -> Check<'_> {
        Check { config, wrong: Vec::new(), warnings: Vec::new() }
    }

    fn in_foundationdb(cluster_file: &Path) -> Config {
        let (cluster_file, subspace) = (cluster_file.to_owned(), config::Subspace::default());
        let place = config::FoundationDb { cluster_file, subspace };
        Config { store: config::Store::FoundationDb(place), ..Config::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_store_is_ok_and_as_before() {
        let config = Config::default();
        let mut check = check(&config);
        let delay = Duration::from_millis(4);
        let memory = Memory::with_faults(1, Faults { delay, ..Faults::default() });
        let store = Store::new(Arc::new(memory), 1);
        Records::open(store.clone(), config.cluster.shards).await.unwrap();
        let probe = Probe::new(store.clone(), 1);
        check.examine(&store, &probe, Instant::now()).await.unwrap();
        assert!(check.wrong.is_empty() && check.warnings.is_empty(), "{check:?}");
        assert_eq!(check.conclude(), ExitCode::SUCCESS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_is_warned_of_with_the_cause() {
        for (config, cause) in [
            (Config::default(), "slow to sync"),
            (in_foundationdb(Path::new("/etc/f")), "fdbcli -C /etc/f"),
        ] {
            let mut check = check(&config);
            let delay = Duration::from_millis(200);
            let memory = Memory::with_faults(1, Faults { delay, ..Faults::default() });
            let store = Store::new(Arc::new(memory), 1);
            let probe = Probe::new(store.clone(), 1);
            check.examine(&store, &probe, Instant::now()).await.unwrap();
            let [warning] = &check.warnings[..] else { panic!("{check:?}") };
            assert!(warning.contains(cause), "{warning}");
            assert_eq!(check.conclude(), ExitCode::SUCCESS, "it is a warning");
        }
    }

    #[test]
    fn what_a_node_would_refuse_is_wrong() {
        let config = Config::default();
        for (found, next) in [
            (Found::Records { format: FORMAT, shards: 7 }, "set [cluster] shards = 7"),
            (Found::Records { format: FORMAT + 1, shards: 256 }, "use that version"),
            (Found::UnfinishedCopy { rows: 1, of: 2 }, "store copy"),
        ] {
            let mut check = check(&config);
            check.judge(&found);
            assert!(check.wrong.len() == 1 && check.wrong[0].contains(next), "{check:?}");
            assert_eq!(check.conclude(), ExitCode::FAILURE);
        }
        let mut check = check(&config);
        check.judge(&Found::Records { format: 1, shards: 256 });
        check.judge(&Found::Nothing);
        assert!(check.wrong.is_empty(), "{check:?}");
    }

    #[test]
    fn a_store_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.node.data_dir = dir.path().to_owned();
        let refused = check(&config).introduce().unwrap_err().to_string();
        assert!(refused.contains("there is no store yet"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cluster_file_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fdb.cluster");
        std::fs::write(&file, "# ours\n\na:b@10.0.0.1:4500,10.0.0.2:4500\n").unwrap();
        let config = in_foundationdb(&file);
        let mut two = check(&config);
        two.introduce().unwrap();
        assert!(two.warnings.is_empty(), "{two:?}");
        std::fs::write(&file, "a:b@10.0.0.1:4500").unwrap();
        let mut one = check(&config);
        one.introduce().unwrap();
        assert!(one.warnings[0].contains("10.0.0.1:4500 is the only coordinator"), "{one:?}");
        let two = "# ours\na:b@10.0.0.1:4500:tls, 10.0.0.2:4500:tls # two";
        assert_eq!(coordinators(two), ["10.0.0.1:4500:tls", "10.0.0.2:4500:tls"]);
        assert_eq!(coordinators("nonsense"), [""; 0]);
    }
}
