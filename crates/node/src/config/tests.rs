use std::time::Duration;

use postrider_delivery::ConnectionLimits;

use super::*;

/// Parses a file named node.toml and variables of the form `NAME=value`.
fn parse(text: &str, environment: &[&str]) -> Result<Config, ConfigError> {
    let mut reader = Reader::default();
    file::parse("node.toml", text, &mut reader)?;
    let variables = environment.iter().map(|entry| {
        let (name, value) = entry.split_once('=').expect("NAME=value");
        (name.into(), value.into())
    });
    environment::read(variables, &mut reader);
    Config::build(&mut reader)
}

/// Parses only a file, for a build with or without the FoundationDB engine.
fn read_for(text: &str, has_foundationdb: bool) -> Result<Config, ConfigError> {
    let mut reader = Reader::default();
    file::parse("node.toml", text, &mut reader)?;
    Config::build_for(&mut reader, has_foundationdb)
}

fn valid(text: &str, environment: &[&str]) -> Config {
    parse(text, environment).unwrap_or_else(|error| panic!("unexpected error: {error}"))
}

fn errors(text: &str, environment: &[&str]) -> Vec<String> {
    let error = parse(text, environment).expect_err("an error");
    error.to_string().lines().map(str::to_owned).collect()
}

/// Asserts that `text` has exactly one error, and returns it.
fn only_error(text: &str) -> String {
    let errors = errors(text, &[]);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.into_iter().next().expect("one")
}

const EXAMPLE: &str = include_str!("../../../../cluster-config/node.toml");

#[test]
fn the_documented_file_contains_the_defaults() {
    assert_eq!(valid(EXAMPLE, &[]), Config::default());
    assert_eq!(valid("", &[]), Config::default());
}

#[test]
fn the_documented_file_contains_every_option() {
    let mut reader = Reader::default();
    Config::build(&mut reader).expect("the defaults are valid");
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
        assert!(written.contains(&name.to_string()), "{name} is not documented");
    }
}

#[test]
fn the_defaults_are_as_specified() {
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
    let config = valid(
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
        disable_when = "exhausted_and_nothing_delivered"
        gone_disables = true
        connection_max_age = "5m"
        per_host = 2048
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
    let connections = ConnectionLimits { max_age: Duration::from_secs(300), per_host: 2048 };
    assert_eq!(config.delivery.connections, connections);
    assert!(config.delivery.disable.on_gone);
    let (timeout, window) = (Duration::from_millis(1_500), Duration::from_secs(3_600));
    let policy = retry::Policy::new(3, window, 2.0, 0.0, timeout);
    assert_eq!(Ok(config.retry), policy);
    assert_eq!(config.email.server.to_string(), "mail.example:465");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    assert_eq!(
        only_error("[retry]\nmax_retries = 1\nwindwo = \"1h\"\n"),
        "node.toml:3: [retry] windwo: unknown key; did you mean \"window\"?"
    );
    assert_eq!(
        only_error("[node]\nlisten = \"127.0.0.1:1\"\n"),
        "node.toml:2: [node] listen: unknown key; did you mean [cluster] listen?"
    );
    assert_eq!(
        only_error("[delivery]\ncolour = \"red\"\n"),
        "node.toml:2: [delivery] colour: unknown key"
    );
    assert_eq!(
        only_error("[rety]\nfactor = 2.0"),
        "node.toml:2: [rety] factor: unknown key; did you mean [retry] factor?"
    );
    assert_eq!(
        only_error("\n[htpp]\n"),
        "node.toml:2: [htpp]: unknown section; did you mean [http]?"
    );
    assert_eq!(only_error("[node.more]\na = 1"), "node.toml:1: [node] more: unknown key");
    assert!(
        only_error("listen = \"127.0.0.1:1\"").starts_with("node.toml:1: listen: options must")
    );
}

#[test]
fn a_wrong_type_is_reported_with_the_expected_type() {
    for (text, message) in [
        ("[http]\nlisten = 8080", "[http] listen: must be a string in quotes"),
        ("[retry]\nmax_retries = \"3\"", "[retry] max_retries: must be a whole number"),
        ("[retry]\nfactor = \"2\"", "[retry] factor: must be a number"),
        (
            "[delivery]\ndisable_when = \"never\"",
            "[delivery] disable_when: must be \"exhausted\" or \"exhausted_and_nothing_delivered\"",
        ),
        ("[delivery]\ngone_disables = 1", "[delivery] gone_disables: must be true or false"),
        (
            "[delivery]\nallow_private_targets = \"10.0.0.0/8\"",
            "[delivery] allow_private_targets: must be a list of strings, such as [\"10.0.0.0/8\"]",
        ),
    ] {
        assert_eq!(only_error(text), format!("node.toml:2: {message}"));
    }
}

#[test]
fn invalid_values_are_rejected() {
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
        ("delivery", "connection_max_age = \"500ms\""),
        ("delivery", "connection_max_age = \"2h\""),
        ("delivery", "per_host = 0"),
        ("delivery", "per_host = 2049"),
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
        let error = only_error(&format!("[{section}]\n{line}\n"));
        let key = line.split(' ').next().expect("a key");
        let begins = format!("node.toml:2: [{section}] {key}: ");
        let rest = error.strip_prefix(&begins).unwrap_or_else(|| panic!("{error}"));
        assert!(!rest.starts_with(key), "the message repeats the key: {error}");
    }
}

#[test]
fn an_invalid_network_is_reported_with_its_own_line() {
    let text =
        "[delivery]\nallow_private_targets = [\n  \"10.0.0.0/8\",\n  \"10.0.0.0/33\",\n  \"x\",\n]";
    let errors = errors(text, &[]);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with(
        "node.toml:4: [delivery] allow_private_targets: \"10.0.0.0/33\" must be a network"
    ));
    assert!(errors[1].starts_with("node.toml:5: "));
}

#[test]
fn a_window_that_is_too_small_is_reported_with_the_smallest_that_fits() {
    let error = only_error("[delivery]\ntimeout = \"10s\"\n[retry]\nwindow = \"1m\"\n");
    assert!(
        error.starts_with(
            "node.toml:4: [retry] window: is too small for 11 attempts that may each take 10s; \
             the smallest that fits is "
        ),
        "{error}"
    );
    let smallest = error.rsplit(' ').next().expect("a duration");
    valid(&format!("[delivery]\ntimeout = \"10s\"\n[retry]\nwindow = \"{smallest}\"\n"), &[]);

    // Each value is valid, but the window is too small for this timeout.
    let error = only_error(
        "[delivery]\ntimeout = \"60s\"\n[retry]\nmax_retries = 100\nfactor = 1.0\nwindow = \"1h\"",
    );
    assert!(error.contains("[retry] window: is too small for 101 attempts"), "{error}");
}

#[test]
fn retries_that_fit_in_no_window_are_rejected() {
    let error = only_error("[retry]\nmax_retries = 100\n");
    assert_eq!(
        error,
        "node.toml:2: [retry] max_retries: 100 retries, each delay 2.5 times the one before, \
         do not fit into any window; lower max_retries or factor"
    );
    let error = only_error("[retry]\nfactor = 10\nmax_retries = 12\n");
    assert!(error.starts_with("node.toml:3: [retry] max_retries: "), "{error}");
    valid("[retry]\nmax_retries = 100\nfactor = 1\n", &[]);
}

#[test]
fn all_errors_are_reported_at_once_in_file_order() {
    let error = errors(
        "[retry]\nwindow = 3\nfacto = 2.0\n[http]\nlisten = \"x\"\n[node]\nname = \"\"\n",
        &["POSTRIDER_RETRY__JITTER=much"],
    );
    let places: Vec<&str> = error.iter().filter_map(|line| line.split(": ").next()).collect();
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
fn options_of_another_kind_of_store_are_rejected() {
    for (text, expected) in [
        (
            "[store]\ncluster_file = \"fdb.cluster\"",
            "node.toml:2: [store] cluster_file: applies only to kind = \"foundationdb\"",
        ),
        (
            "[store]\nsubspace = \"postrider\"\nkind = \"embedded\"",
            "node.toml:2: [store] subspace: applies only to kind = \"foundationdb\"",
        ),
        (
            "[store]\nkind = \"foundationdb\"\nsubspace = \"a b\"",
            "node.toml:3: [store] subspace: must have 1 to 64 characters, each a letter, a digit, \
             '.', '_' or '-'",
        ),
        (
            "[store]\nkind = \"foundationdb\"\ncluster_file = \" \"",
            "node.toml:3: [store] cluster_file: must not be empty; give the path of a file",
        ),
    ] {
        let error = read_for(text, true).expect_err("an error");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_build_without_foundationdb_says_how_to_include_it() {
    let error = read_for("[store]\nkind = \"foundationdb\"", false).expect_err("an error");
    let error = error.to_string();
    assert!(error.starts_with("node.toml:2: [store] kind: this build does not include"), "{error}");
    assert!(error.contains("--features foundationdb"), "{error}");
}

#[test]
fn the_foundationdb_example_is_valid() {
    let example = include_str!("../../../../cluster-config/foundationdb/node.toml");
    let config = read_for(example, true).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(config.store, Store::FoundationDb(_)));
    assert!(config.cluster.peering.is_some_and(|peering| peering.tls.is_some()));
}

#[test]
fn the_collector_is_a_url_and_empty_means_none() {
    let collector = |text: &str| {
        let config = valid(&format!("[telemetry]\notlp_endpoint = \"{text}\""), &[]);
        config.telemetry.otlp_endpoint.map(|collector| collector.to_string())
    };
    assert_eq!(collector(""), None);
    assert_eq!(collector("http://10.0.0.7:4318").as_deref(), Some("http://10.0.0.7:4318/"));
    for (text, why) in
        [("grpc://x:4317", "must be a URL"), ("http://me:secret@x", "must not contain a password")]
    {
        let error = only_error(&format!("[telemetry]\notlp_endpoint = \"{text}\""));
        let place = "node.toml:2: [telemetry] otlp_endpoint: ";
        assert!(error.starts_with(place) && error.contains(why), "{error}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let config = valid(
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
fn a_list_in_the_environment_is_a_toml_array_or_comma_separated() {
    for (value, count) in [
        ("", 0),
        ("[]", 0),
        ("10.0.0.0/8", 1),
        ("10.0.0.0/8, ::1/128,", 2),
        ("[\"10.0.0.0/8\", '::1/128']", 2),
    ] {
        let variable = format!("POSTRIDER_DELIVERY__ALLOW_PRIVATE_TARGETS={value}");
        let config = valid("", &[&variable]);
        assert_eq!(config.delivery.allow_private_targets.len(), count, "{value}");
    }
    for value in ["[1]", "[\"10.0.0.0/8\"", "[\"::1/128\"]\nb = 1", "10.0.0.0"] {
        let variable = format!("POSTRIDER_DELIVERY__ALLOW_PRIVATE_TARGETS={value}");
        let error = errors("", &[&variable]);
        let begins = "POSTRIDER_DELIVERY__ALLOW_PRIVATE_TARGETS: ";
        assert!(error[0].starts_with(begins), "{error:?}");
    }
}

#[test]
fn an_invalid_variable_is_named() {
    for (variable, error) in [
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
            "POSTRIDER_http__listen: unknown option; names are in upper case, as in POSTRIDER_HTTP__LISTEN",
        ),
        ("POSTRIDER_X__Y=1", "POSTRIDER_X__Y: unknown option"),
    ] {
        assert_eq!(errors("", &[variable]), [error]);
    }
}

#[test]
fn other_variables_are_not_options() {
    let config = valid(
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
fn invalid_toml_is_reported_with_its_line() {
    assert!(only_error("[node]\nname = node-1\n").starts_with("node.toml:2: is not valid TOML: "));
    let twice = only_error("[retry]\njitter = 0.1\njitter = 0.2\n");
    assert!(twice.starts_with("node.toml:3: is not valid TOML: "), "{twice}");
}

#[test]
fn a_missing_file_is_reported() {
    let result = Config::load(Some(Path::new("/nowhere/node.toml")), []);
    let error = result.expect_err("an error").to_string();
    assert!(error.starts_with("/nowhere/node.toml: cannot be read: "), "{error}");
}

#[test]
fn the_readme_shows_the_default_schedule() {
    let readme = include_str!("../../../../README.md");
    assert!(readme.contains(&valid("", &[]).describe()), "{}", valid("", &[]).describe());
}

#[test]
fn the_options_of_a_clustered_node_are_read() {
    let alone = valid("[cluster]\nshards = 8", &[]);
    assert_eq!((alone.cluster.shards, alone.cluster.peering), (8, None));
    let near = valid("[cluster]\nlisten = \"127.0.0.1:7946\"", &[]).cluster.peering.unwrap();
    assert_eq!((near.advertise, near.tls), (near.listen, None));
    let text = "[cluster]\nlisten = \"0.0.0.0:7946\"\nadvertise = \"10.0.0.5:7946\"\n\
                seeds = [\"node-2:7946\"]\ncookie_file = \"c\"\ntls_ca = \"a\"\ntls_cert = \"b\"\n\
                tls_key = \"k\"";
    let far = valid(text, &[]).cluster.peering.unwrap();
    assert_eq!(far.advertise.to_string(), "10.0.0.5:7946");
    assert_eq!((far.seeds.len(), far.tls.is_some()), (1, true));
}

#[test]
fn invalid_cluster_options_are_rejected() {
    for (text, why) in [
        ("[cluster]\nseeds = [\"a:1\"]", "without [cluster] listen"),
        ("[cluster]\ncookie_file = \"cookie\"", "without [cluster] listen"),
        ("[cluster]\nlisten = \"10.0.0.5:7946\"", "scripts/cluster-certs"),
        ("[cluster]\nlisten = \"127.0.0.1:0\"", "advertise"),
        ("[cluster]\nadvertise = \"0.0.0.0:7946\"\nlisten = \"127.0.0.1:1\"", "can connect to"),
        ("[cluster]\nseeds = [\"node-2\"]\nlisten = \"127.0.0.1:1\"", "a host and a port"),
        ("[cluster]\ntls_ca = \"ca.pem\"\nlisten = \"127.0.0.1:1\"", "together"),
    ] {
        let error = only_error(text);
        assert!(error.starts_with("node.toml:2: ") && error.contains(why), "{error}");
    }
}

#[test]
fn the_dashboard_options_are_read() {
    let config = valid(
        "[dashboard]\npublic_url = \"https://hooks.example.com\"\nembed_in = [\"https://app.example.com\"]",
        &[],
    );
    assert!(config.dashboard.is_secure());
    let embed_in: Vec<_> = config.dashboard.embed_in.iter().map(ToString::to_string).collect();
    assert_eq!(embed_in, ["https://app.example.com"]);
    let by_variable = valid("", &["POSTRIDER_DASHBOARD__PUBLIC_URL=http://10.0.0.7:8080"]);
    let url = by_variable.dashboard.public_url.expect("a URL");
    assert_eq!(url.to_string(), "http://10.0.0.7:8080");
    for bad in [
        "hooks.example.com",
        "https://hooks.example.com/x",
        "ftp://a",
        "https://u:p@a",
        "https://a/?b",
    ] {
        let error = only_error(&format!("[dashboard]\npublic_url = \"{bad}\""));
        assert!(error.contains("node.toml:2") && error.contains("public_url"), "{error}");
    }
    let error =
        only_error("[dashboard]\nembed_in = [\"app.example.com/x\"]\npublic_url = \"https://a\"");
    assert!(error.contains("must be an http or https URL"), "{error}");
    // Browsers keep the session of an embedded page only over TLS.
    let error = only_error("[dashboard]\nembed_in = [\"https://app.example.com\"]");
    assert!(error.contains("needs an https public_url"), "{error}");
}
