//! The files that `scripts/cluster-certs` creates.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::fixture::{Node, join, options};
use crate::transport::{Cookie, Options, Tls};

fn has_openssl() -> bool {
    Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success())
}

fn run(args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/cluster-certs");
    Command::new(script).args(args).output().unwrap()
}

fn load(dir: &Path, name: &str) -> Options {
    let file = |end: &str| -> PathBuf { dir.join(format!("{name}.{end}")) };
    let tls = Tls::load(&dir.join("ca.pem"), &file("pem"), &file("key")).unwrap();
    let cookie = Cookie::read(&dir.join("cookie")).unwrap();
    Options { cookie, ..options(name, Some(tls)) }
}

#[tokio::test]
async fn nodes_with_certificates_from_the_script_connect() {
    if !has_openssl() {
        return eprintln!("skipped: openssl is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let made = run(&[path, "node-1:10.0.0.5,node-1.example.com", "node_2:::1"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let stdout = String::from_utf8(made.stdout).unwrap();
    let line = format!("tls_key = \"{}/node-1.key\"", dir.path().canonicalize().unwrap().display());
    assert!(stdout.contains(&line), "{stdout}");
    for file in ["ca.key", "node-1.key", "node_2.key", "cookie"] {
        let mode = dir.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    // A node that is added later has the same CA and cookie.
    assert!(run(&[path, "node-3"]).status.success());
    let mut one = Node::start(load(dir.path(), "node-1")).await;
    let mut two = Node::start(load(dir.path(), "node_2")).await;
    let mut three = Node::start(load(dir.path(), "node-3")).await;
    join(&mut one, &mut two).await;
    join(&mut three, &mut one).await;

    let key = std::fs::read(dir.path().join("node-1.key")).unwrap();
    let again = run(&[path, "node-4", "node-1"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("node-1.key exists"));
    assert_eq!(std::fs::read(dir.path().join("node-1.key")).unwrap(), key);
    assert!(!dir.path().join("node-4.key").exists(), "all or nothing");
}

#[test]
fn misuse_prints_the_usage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certs");
    let path = path.to_str().unwrap();
    for args in [
        &[][..],
        &[path],
        &["--what", "a"],
        &[path, "ca"],
        &[path, "a/b"],
        &[path, "a:"],
        &[path, "a:b c"],
        &[path, "a", "a"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Usage:"), "{args:?}");
    }
    assert!(!Path::new(path).exists());
    let help = run(&["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Usage:"));
}
