//! Checks that the crates depend only on the crates below them (see `crates/README.md`).

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Each crate, and the crates of this repository that it may depend on.
    const DEPENDENCIES: [(&str, &[&str]); 11] = [
        ("domain", &[]),
        ("kv", &[]),
        ("store", &["domain", "kv"]),
        ("net", &["domain"]),
        ("cluster", &["domain", "net", "store"]),
        ("service", &["cluster", "domain", "store"]),
        ("delivery", &["cluster", "domain", "net", "store"]),
        ("notify", &["cluster", "domain", "net", "store"]),
        ("api", &["cluster", "domain", "net", "service", "store"]),
        ("client", &["domain", "net"]),
        ("node", &["api", "cluster", "delivery", "domain", "net", "notify", "service", "store"]),
    ];

    #[test]
    fn crates_depend_only_on_the_crates_below_them() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        let entries = fs::read_dir(&crates).expect("the directory of crates");
        let found: BTreeSet<String> = entries
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().expect("a name"))
            .collect();
        let known: BTreeSet<String> =
            DEPENDENCIES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, known, "list a new crate in DEPENDENCIES");
        for (name, allowed) in DEPENDENCIES {
            let manifest = crates.join(name).join("Cargo.toml");
            let manifest = fs::read_to_string(manifest).expect("a manifest");
            for dependency in dependencies(&manifest) {
                assert!(allowed.contains(&dependency), "{name} may not depend on {dependency}");
            }
        }
    }

    /// The crates of this repository among the dependencies of a manifest, without
    /// dev-dependencies.
    fn dependencies(manifest: &str) -> Vec<&str> {
        let mut section = "";
        let mut found = Vec::new();
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section == "[dependencies]"
                && let Some(name) = line.strip_prefix("postrider-")
            {
                let end = name.find(['.', ' ', '=']).expect("the end of a name");
                found.push(&name[..end]);
            }
        }
        found
    }

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let manifest = "[package]\nname = \"postrider-x\"\n\n[dependencies]\npostrider-domain.workspace \
            = true\nserde = \"1\"\n\n[dev-dependencies]\npostrider-store.workspace = true\n";
        assert_eq!(dependencies(manifest), ["domain"]);
    }
}
