use std::time::Duration;

use super::*;

/// The file is called node.toml; the environment is `NAME=value` for each variable.
fn parse(text: &str, environment: &[&str]) -> Result<Config, Refused> {
    let mut reader = Reader::default();
    file::parse("node.toml", text, &mut reader)?;
    let variables = environment.iter().map(|entry| {
        let (name, value) = entry.split_once('=').expect("NAME=value");
        (name.into(), value.into())
    });
    environment::read(variables, &mut reader);
    Config::build(&mut reader)
}

/// The file alone, for a build that has the engine of FoundationDB, or one that has not.
fn read_for(text: &str, has_foundationdb: bool) -> Result<Config, Refused> {
    let mut reader = Reader::default();
    file::parse("node.toml", text, &mut reader)?;
    Config::build_for(&mut reader, has_foundationdb)
}

fn good(text: &str, environment: &[&str]) -> Config {
    parse(text, environment).unwrap_or_else(|refused| panic!("refused: {refused}"))
}

fn complaints(text: &str, environment: &[&str]) -> Vec<String> {
    let refused = parse(text, environment).expect_err("is refused");
    refused.to_string().lines().map(str::to_owned).collect()
}

/// Asserts that `text` has exactly one problem.
fn complaint(text: &str) -> String {
    let complaints = complaints(text, &[]);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    complaints.into_iter().next().expect("one")
}

const EXAMPLE: &str = include_str!("../../../../cluster-config/node.toml");

#[test]
fn the_commented_file_says_the_defaults() {
    assert_eq!(good(EXAMPLE, &[]), Config::default());
    assert_eq!(good("", &[]), Config::default());
}

#[test]
fn the_commented_file_has_every_option() {
    let mut reader = Reader::default();
    Config::build(&mut reader).expect("the defaults are good");
    let mut section = String::new();
    let mut written = std::collections::BTreeSet::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            written.insert(format!("[{section}] {key}"));
        }
    }
    for name in reader.known() {
        assert!(written.contains(&name.to_string()), "{name} is not there");
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = Config::default();
    assert_eq!(config.node.name.to_string(), "node-1");
    assert_eq!(config.node.data_dir, Path::new("postrider-data"));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.store, Store::Embedded);
    assert_eq!(config.cluster.shards, 256);
    assert_eq!(config.delivery.allow_private_targets, []);
    assert!(!config.delivery.disable.on_gone);
    assert_eq!(config.retry, retry::Policy::default());
    assert_eq!(config.email.server.to_string(), "127.0.0.1:1025");
}

#[test]
fn every_option_is_read() {
    let config = good(
        r#"
        [node]
        name = "eu-1.a"
        data_dir = "/var/lib/postrider"
        [http]
        listen = "[::]:80"
        [store]
        kind = "embedded"
        [cluster]
        shards = 16384
        [delivery]
        timeout = "1s500ms"
        allow_private_targets = ["10.0.0.0/8", "::1/128"]
        gone_disables = true
        [retry]
        max_retries = 3
        window = "1h"
        factor = 2
        jitter = 0
        [email]
        smtp_url = "smtps://me:pw@mail.example"
        from = "hooks@example.org"
        [telemetry]
        otlp_endpoint = ""
        "#,
        &[],
    );
    assert_eq!(config.node.name.to_string(), "eu-1.a");
    assert_eq!(config.http.listen.to_string(), "[::]:80");
    assert_eq!(config.cluster.shards, 16_384);
    assert_eq!(config.delivery.allow_private_targets.len(), 2);
    assert!(config.delivery.disable.on_gone);
    let (timeout, window) = (Duration::from_millis(1_500), Duration::from_secs(3_600));
    let policy = retry::Policy::new(3, window, 2.0, 0.0, timeout);
    assert_eq!(Ok(config.retry), policy);
    assert_eq!(config.email.server.to_string(), "mail.example:465");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    assert_eq!(
        complaint("[retry]\nmax_retries = 1\nwindwo = \"1h\"\n"),
        "node.toml:3: [retry] windwo: unknown key; did you mean \"window\"?"
    );
    assert_eq!(
        complaint("[node]\nlisten = \"127.0.0.1:1\"\n"),
        "node.toml:2: [node] listen: unknown key; did you mean [cluster] listen?"
    );
    assert_eq!(
        complaint("[delivery]\ncolour = \"red\"\n"),
        "node.toml:2: [delivery] colour: unknown key"
    );
    assert_eq!(
        complaint("[rety]\nfactor = 2.0"),
        "node.toml:2: [rety] factor: unknown key; did you mean [retry] factor?"
    );
    assert_eq!(
        complaint("\n[htpp]\n"),
        "node.toml:2: [htpp]: unknown section; did you mean [http]?"
    );
    assert_eq!(complaint("[node.more]\na = 1"), "node.toml:1: [node] more: unknown key");
    assert!(complaint("listen = \"127.0.0.1:1\"").starts_with("node.toml:1: listen: every option"));
}

#[test]
fn the_wrong_type_is_named_with_what_is_right() {
    for (text, complains) in [
        ("[http]\nlisten = 8080", "[http] listen: must be a text in quotes"),
        ("[retry]\nmax_retries = \"3\"", "[retry] max_retries: must be a whole number"),
        ("[retry]\nfactor = \"2\"", "[retry] factor: must be a number"),
        ("[delivery]\ngone_disables = 1", "[delivery] gone_disables: must be true or false"),
        (
            "[delivery]\nallow_private_targets = \"10.0.0.0/8\"",
            "[delivery] allow_private_targets: must be a list of texts, such as [\"10.0.0.0/8\"]",
        ),
    ] {
        assert_eq!(complaint(text), format!("node.toml:2: {complains}"));
    }
}

#[test]
fn bad_values_are_refused() {
    for (section, line) in [
        ("node", "name = \"\""),
        ("node", "name = \"a b\""),
        ("node", "data_dir = \" \""),
        ("http", "listen = \"localhost:8080\""),
        ("http", "listen = \"127.0.0.1\""),
        ("http", "listen = \"127.0.0.1:99999\""),
        ("store", "kind = \"sqlite\""),
        ("cluster", "shards = 0"),
        ("cluster", "shards = 16385"),
        ("cluster", "shards = -1"),
        ("cluster", "shards = 99999999999999999999"),
        ("delivery", "timeout = \"5\""),
        ("delivery", "timeout = \"0s\""),
        ("delivery", "timeout = \"61s\""),
        ("delivery", "allow_private_targets = [1]"),
        ("delivery", "allow_private_targets = [\"10.0.0.1\"]"),
        ("retry", "max_retries = 101"),
        ("retry", "max_retries = -1"),
        ("retry", "window = \"24 hours\""),
        ("retry", "window = \"91d\""),
        ("retry", "factor = 0.5"),
        ("retry", "factor = nan"),
        ("retry", "jitter = 1.0"),
        ("retry", "jitter = -0.1"),
        ("email", "smtp_url = \"\""),
        ("email", "smtp_url = \"mail.example\""),
        ("email", "smtp_url = \"smtp://me:pw@mail.example\""),
        ("email", "from = \"nobody\""),
    ] {
        let said = complaint(&format!("[{section}]\n{line}\n"));
        let key = line.split(' ').next().expect("a key");
        let begins = format!("node.toml:2: [{section}] {key}: ");
        let rest = said.strip_prefix(&begins).unwrap_or_else(|| panic!("{said}"));
        assert!(!rest.starts_with(key), "names the key twice: {said}");
    }
}

#[test]
fn a_bad_network_is_named_with_its_own_line() {
    let text =
        "[delivery]\nallow_private_targets = [\n  \"10.0.0.0/8\",\n  \"10.0.0.0/33\",\n  \"x\",\n]";
    let complaints = complaints(text, &[]);
    assert_eq!(complaints.len(), 2, "{complaints:#?}");
    assert!(complaints[0].starts_with(
        "node.toml:4: [delivery] allow_private_targets: \"10.0.0.0/33\" must be a network"
    ));
    assert!(complaints[1].starts_with("node.toml:5: "));
}

#[test]
fn a_window_that_is_too_small_says_which_would_do() {
    let said = complaint("[delivery]\ntimeout = \"10s\"\n[retry]\nwindow = \"1m\"\n");
    assert!(
        said.starts_with(
            "node.toml:4: [retry] window: is too small for 11 attempts that may each take 10s; \
             the smallest that fits is "
        ),
        "{said}"
    );
    let smallest = said.rsplit(' ').next().expect("a duration");
    good(&format!("[delivery]\ntimeout = \"10s\"\n[retry]\nwindow = \"{smallest}\"\n"), &[]);

    // The default window, with a timeout that is too long for it: nothing was written wrongly.
    let said = complaint(
        "[delivery]\ntimeout = \"60s\"\n[retry]\nmax_retries = 100\nfactor = 1.0\nwindow = \"1h\"",
    );
    assert!(said.contains("[retry] window: is too small for 101 attempts"), "{said}");
}

#[test]
fn retries_that_fit_in_no_window_are_refused() {
    let said = complaint("[retry]\nmax_retries = 100\n");
    assert_eq!(
        said,
        "node.toml:2: [retry] max_retries: 100 retries, each delay 2.5 times the one before, \
         fit in no window; lower max_retries or factor"
    );
    let said = complaint("[retry]\nfactor = 10\nmax_retries = 12\n");
    assert!(said.starts_with("node.toml:3: [retry] max_retries: "), "{said}");
    good("[retry]\nmax_retries = 100\nfactor = 1\n", &[]);
}

#[test]
fn everything_is_said_at_once_in_the_order_of_the_file() {
    let said = complaints(
        "[retry]\nwindow = 3\nfacto = 2.0\n[http]\nlisten = \"x\"\n[node]\nname = \"\"\n",
        &["POSTRIDER_RETRY__JITTER=much"],
    );
    let places: Vec<&str> = said.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(
        places,
        ["node.toml:2", "node.toml:3", "node.toml:5", "node.toml:7", "POSTRIDER_RETRY__JITTER"]
    );
}

#[test]
fn a_store_in_foundationdb_is_read() {
    let store = |text: &str| read_for(text, true).map(|config| config.store);
    assert_eq!(store("").unwrap(), Store::Embedded);
    let Store::FoundationDb(default) = store("[store]\nkind = \"foundationdb\"").unwrap() else {
        panic!("embedded");
    };
    assert_eq!(default.cluster_file, Path::new("/etc/foundationdb/fdb.cluster"));
    assert_eq!(default.subspace.to_string(), "postrider");
    let text = "[store]\nkind = \"foundationdb\"\ncluster_file = \"fdb.cluster\"\n\
                subspace = \"eu-1.test_2\"";
    let Store::FoundationDb(given) = store(text).unwrap() else { panic!("embedded") };
    assert_eq!(given.cluster_file, Path::new("fdb.cluster"));
    assert_eq!(given.subspace.to_string(), "eu-1.test_2");
}

#[test]
fn what_belongs_to_the_other_kind_is_refused_with_its_place() {
    for (text, said) in [
        (
            "[store]\ncluster_file = \"fdb.cluster\"",
            "node.toml:2: [store] cluster_file: belongs to kind = \"foundationdb\" alone",
        ),
        (
            "[store]\nsubspace = \"postrider\"\nkind = \"embedded\"",
            "node.toml:2: [store] subspace: belongs to kind = \"foundationdb\" alone",
        ),
        (
            "[store]\nkind = \"foundationdb\"\nsubspace = \"a b\"",
            "node.toml:3: [store] subspace: must have 1 to 64 characters, each a letter, a digit, \
             '.', '_' or '-'",
        ),
        (
            "[store]\nkind = \"foundationdb\"\ncluster_file = \" \"",
            "node.toml:3: [store] cluster_file: must name a file",
        ),
    ] {
        let refused = read_for(text, true).expect_err("is refused");
        assert_eq!(refused.to_string(), said);
    }
}

#[test]
fn a_build_without_foundationdb_says_how_to_get_one() {
    let refused = read_for("[store]\nkind = \"foundationdb\"", false).expect_err("is refused");
    let said = refused.to_string();
    assert!(
        said.starts_with("node.toml:2: [store] kind: this build has no FoundationDB"),
        "{said}"
    );
    assert!(said.contains("--features foundationdb"), "{said}");
}

#[test]
fn the_example_with_foundationdb_is_good() {
    let example = include_str!("../../../../cluster-config/foundationdb/node.toml");
    let config = read_for(example, true).unwrap_or_else(|refused| panic!("{refused}"));
    assert!(matches!(config.store, Store::FoundationDb(_)));
    assert!(config.cluster.company.is_some_and(|company| company.tls.is_some()));
}

#[test]
fn a_collector_is_a_url_and_nothing_is_none() {
    let collector = |text: &str| {
        let config = good(&format!("[telemetry]\notlp_endpoint = \"{text}\""), &[]);
        config.telemetry.otlp_endpoint.map(|collector| collector.to_string())
    };
    assert_eq!(collector(""), None);
    assert_eq!(collector("http://10.0.0.7:4318").as_deref(), Some("http://10.0.0.7:4318/"));
    for (text, why) in
        [("grpc://x:4317", "must be a URL"), ("http://me:secret@x", "must not hold a password")]
    {
        let said = complaint(&format!("[telemetry]\notlp_endpoint = \"{text}\""));
        let place = "node.toml:2: [telemetry] otlp_endpoint: ";
        assert!(said.starts_with(place) && said.contains(why), "{said}");
    }
}

#[test]
fn the_environment_wins() {
    let config = good(
        "[http]\nlisten = \"not even an address\"\n[retry]\nmax_retries = 5\n",
        &[
            "POSTRIDER_HTTP__LISTEN=127.0.0.1:9",
            "POSTRIDER_RETRY__MAX_RETRIES=2",
            "POSTRIDER_RETRY__FACTOR=3",
            "POSTRIDER_DELIVERY__GONE_DISABLES=true",
            "POSTRIDER_NODE__NAME=42",
        ],
    );
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9");
    assert_eq!(config.retry.max_retries(), 2);
    assert!(config.delivery.disable.on_gone);
    assert_eq!(config.node.name.to_string(), "42");
}

#[test]
fn a_list_in_the_environment_has_two_forms() {
    for (value, count) in [
        ("", 0),
        ("[]", 0),
        ("10.0.0.0/8", 1),
        ("10.0.0.0/8, ::1/128,", 2),
        ("[\"10.0.0.0/8\", '::1/128']", 2),
    ] {
        let variable = format!("POSTRIDER_DELIVERY__ALLOW_PRIVATE_TARGETS={value}");
        let config = good("", &[&variable]);
        assert_eq!(config.delivery.allow_private_targets.len(), count, "{value}");
    }
    for value in ["[1]", "[\"10.0.0.0/8\"", "[\"::1/128\"]\nb = 1", "10.0.0.0"] {
        let variable = format!("POSTRIDER_DELIVERY__ALLOW_PRIVATE_TARGETS={value}");
        let said = complaints("", &[&variable]);
        let begins = "POSTRIDER_DELIVERY__ALLOW_PRIVATE_TARGETS: ";
        assert!(said[0].starts_with(begins), "{said:?}");
    }
}

#[test]
fn a_bad_variable_is_named() {
    for (variable, said) in [
        (
            "POSTRIDER_RETRY__MAX_RETRIES=many",
            "POSTRIDER_RETRY__MAX_RETRIES: must be a whole number",
        ),
        (
            "POSTRIDER_HTTP__LISTN=127.0.0.1:1",
            "POSTRIDER_HTTP__LISTN: unknown option; did you mean POSTRIDER_HTTP__LISTEN?",
        ),
        (
            "POSTRIDER_http__listen=127.0.0.1:1",
            "POSTRIDER_http__listen: unknown option; names are in capitals, as in POSTRIDER_HTTP__LISTEN",
        ),
        ("POSTRIDER_X__Y=1", "POSTRIDER_X__Y: unknown option"),
    ] {
        assert_eq!(complaints("", &[variable]), [said]);
    }
}

#[test]
fn other_variables_are_not_options() {
    let config = good(
        "",
        &[
            "POSTRIDER_OPERATOR_KEY=secret",
            "POSTRIDER_LOG=debug",
            "POSTRIDER_SERVICE_HOST=10.0.0.1",
            "HTTP__LISTEN=127.0.0.1:1",
        ],
    );
    assert_eq!(config, Config::default());
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    assert!(complaint("[node]\nname = node-1\n").starts_with("node.toml:2: is not TOML: "));
    let twice = complaint("[retry]\njitter = 0.1\njitter = 0.2\n");
    assert!(twice.starts_with("node.toml:3: is not TOML: "), "{twice}");
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let refused = Config::load(Some(Path::new("/nowhere/node.toml")), []);
    let said = refused.expect_err("is refused").to_string();
    assert!(said.starts_with("/nowhere/node.toml: cannot be read: "), "{said}");
}

#[test]
fn the_readme_shows_the_schedule_that_is_used() {
    let readme = include_str!("../../../../README.md");
    assert!(readme.contains(&good("", &[]).describe()), "{}", good("", &[]).describe());
}

#[test]
fn a_node_of_a_cluster_is_read() {
    let alone = good("[cluster]\nshards = 8", &[]);
    assert_eq!((alone.cluster.shards, alone.cluster.company), (8, None));
    let near = good("[cluster]\nlisten = \"127.0.0.1:7946\"", &[]).cluster.company.unwrap();
    assert_eq!((near.advertise, near.tls), (near.listen, None));
    let text = "[cluster]\nlisten = \"0.0.0.0:7946\"\nadvertise = \"10.0.0.5:7946\"\n\
                seeds = [\"node-2:7946\"]\ncookie_file = \"c\"\ntls_ca = \"a\"\ntls_cert = \"b\"\n\
                tls_key = \"k\"";
    let far = good(text, &[]).cluster.company.unwrap();
    assert_eq!(far.advertise.to_string(), "10.0.0.5:7946");
    assert_eq!((far.seeds.len(), far.tls.is_some()), (1, true));
}

#[test]
fn what_a_cluster_cannot_work_with_is_refused() {
    for (text, why) in [
        ("[cluster]\nseeds = [\"a:1\"]", "needs [cluster] listen"),
        ("[cluster]\ncookie_file = \"cookie\"", "needs [cluster] listen"),
        ("[cluster]\nlisten = \"10.0.0.5:7946\"", "scripts/cluster-certs"),
        ("[cluster]\nlisten = \"127.0.0.1:0\"", "advertise"),
        ("[cluster]\nadvertise = \"0.0.0.0:7946\"\nlisten = \"127.0.0.1:1\"", "can connect to"),
        ("[cluster]\nseeds = [\"node-2\"]\nlisten = \"127.0.0.1:1\"", "a host and a port"),
        ("[cluster]\ntls_ca = \"ca.pem\"\nlisten = \"127.0.0.1:1\"", "together"),
    ] {
        let said = complaint(text);
        assert!(said.starts_with("node.toml:2: ") && said.contains(why), "{said}");
    }
}

#[test]
fn the_dashboard_is_where_people_find_it() {
    let config = good(
        "[dashboard]\npublic_url = \"https://hooks.example.com\"\nembed_in = [\"https://app.example.com\"]",
        &[],
    );
    assert!(config.dashboard.is_secure());
    let embed_in: Vec<_> = config.dashboard.embed_in.iter().map(ToString::to_string).collect();
    assert_eq!(embed_in, ["https://app.example.com"]);
    let by_variable = good("", &["POSTRIDER_DASHBOARD__PUBLIC_URL=http://10.0.0.7:8080"]);
    let url = by_variable.dashboard.public_url.expect("a URL");
    assert_eq!(url.to_string(), "http://10.0.0.7:8080");
    for bad in [
        "hooks.example.com",
        "https://hooks.example.com/x",
        "ftp://a",
        "https://u:p@a",
        "https://a/?b",
    ] {
        let told = complaint(&format!("[dashboard]\npublic_url = \"{bad}\""));
        assert!(told.contains("node.toml:2") && told.contains("public_url"), "{told}");
    }
    let told =
        complaint("[dashboard]\nembed_in = [\"app.example.com/x\"]\npublic_url = \"https://a\"");
    assert!(told.contains("must be an http or https URL"), "{told}");
    // Within another site's page, a session is kept over TLS alone.
    let told = complaint("[dashboard]\nembed_in = [\"https://app.example.com\"]");
    assert!(told.contains("needs public_url"), "{told}");
}
