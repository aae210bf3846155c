use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::*;
use crate::tests::name_server::{NameServer, Reply};

const SOON: Duration = Duration::from_secs(2);

/// A name server, and a resolver that asks it.
struct Fixture {
    server: NameServer,
    resolver: SystemResolver,
}

impl Fixture {
    async fn new(ttl: u32, answer: impl Fn(&str, RecordType) -> Reply + Send + 'static) -> Self {
        let server = NameServer::start(ttl, answer).await;
        let resolver = SystemResolver::load(server.files()).expect("loads");
        Self { server, resolver }
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        timeout(SOON, self.resolver.lookup(name)).await.expect("a result in time")
    }
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn v6() -> IpAddr {
    "2001:db8::1".parse().expect("an address")
}

#[tokio::test]
async fn names_are_absolute_and_may_contain_underscores() {
    let fixture = Fixture::new(60, |_, family| match family {
        RecordType::A => Some(vec![v4(1)]),
        _ => Some(vec![v6()]),
    })
    .await;
    let label = "x".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", &label[2..]);
    for name in ["my_app.example.com", "-a-.example", "plain", "trailing.dot.", &longest] {
        let found: HashSet<IpAddr> = fixture.lookup(name).await.unwrap().into_iter().collect();
        assert_eq!(found, HashSet::from([v4(1), v6()]), "{name}");
    }
    let asked = fixture.server.queries.lock();
    assert!(asked.iter().all(|(name, _)| !name.contains("wild")), "{asked:?}");
}

/// Names of all shapes: plausible ones, and ones that break a rule.
fn names() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        4 => "[a-z0-9_]([a-z0-9_-]{0,8}[a-z0-9_])?",
        1 => "[a-z_-]{0,3}",
        1 => "(0x)?[0-9a-f]{1,3}",
        1 => "[a-z0-9-]{60,66}",
        1 => "xn--[a-z0-9-]{1,8}",
        1 => "[a-z\u{e4}\u{df}\u{200d}\u{ff0e}\u{3002}\u{2488}\u{ff41}\u{430}A-Z]{1,6}",
        1 => "[ -~\u{7f}\u{a0}]{1,3}",
    ];
    (proptest::collection::vec(label, 1..7), "(\\.{0,2})")
        .prop_map(|(labels, dots)| labels.join(".") + &dots)
}

/// The host of a URL that registration accepts.
fn accepted(scheme: &str, name: &str) -> Option<String> {
    let url = TargetUrl::parse(&format!("{scheme}://{name}/"), &AddressPolicy::default()).ok()?;
    url.origin().domain().map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    /// Registration accepts a name only if each library can handle it.
    #[test]
    fn every_accepted_name_can_be_resolved_and_sent_to(name in names()) {
        for scheme in ["http", "https"] {
            let Some(host) = accepted(scheme, &name) else { continue };
            let absolute = absolute(&normalize(&host));
            prop_assert!(absolute.is_ok(), "{}: {:?}", host, absolute);
            let authority: Result<http::uri::Authority, _> = host.parse();
            prop_assert!(authority.is_ok_and(|authority| authority.host() == host));
            if scheme == "https" {
                prop_assert!(ServerName::try_from(host.clone()).is_ok(), "{host}");
            }
        }
    }

    /// And it rejects no name that the libraries can handle, except those that end in a number,
    /// which browsers take for IPv4 addresses.
    #[test]
    fn every_name_that_can_be_resolved_is_accepted(name in "[a-z_-][a-z0-9_.-]{0,70}\\.[a-z_-]{1,4}\\.?") {
        prop_assume!(!name.contains("xn--") && !name.ends_with("localhost"));
        if let Ok(dns_name) = absolute(&normalize(&name)) {
            prop_assert!(accepted("http", &name).is_some(), "{name} {dns_name}");
            prop_assert_eq!(accepted("https", &name).is_some(), ServerName::try_from(&*name).is_ok());
        }
    }
}

#[tokio::test]
async fn a_name_that_is_no_name_is_not_found() {
    let fixture = Fixture::new(60, |_, _| None).await;
    for name in ["a..b", &"x".repeat(64), ""] {
        let error = fixture.lookup(name).await.unwrap_err();
        assert!(matches!(error, LookupError::NotFound), "{name}: {error}");
    }
    assert!(fixture.server.queries.lock().is_empty());
}

#[tokio::test]
async fn a_family_without_an_answer_delays_nothing() {
    for silent in [RecordType::A, RecordType::AAAA] {
        let fixture = Fixture::new(60, move |_, family| match family {
            family if family == silent => None,
            RecordType::A => Some(vec![v4(1)]),
            _ => Some(vec![v6()]),
        })
        .await;
        let start = Instant::now();
        let found = fixture.lookup("example.com").await.unwrap();
        assert_eq!(found.len(), 1, "{silent}");
        assert!(start.elapsed() < Duration::from_secs(1), "{silent}");
    }
}

#[tokio::test]
async fn the_hosts_file_comes_first() {
    let fixture = Fixture::new(60, |_, _| None).await;
    for name in ["local_host.test", "ALIAS.test."] {
        assert_eq!(fixture.lookup(name).await.unwrap(), ["127.0.0.9".parse::<IpAddr>().unwrap()]);
    }
    assert!(fixture.server.queries.lock().is_empty());
}

#[tokio::test]
async fn an_unknown_name_is_not_found() {
    let fixture = Fixture::new(60, |_, _| Some(Vec::new())).await;
    let error = fixture.lookup("example.com").await.unwrap_err();
    assert!(matches!(error, LookupError::NotFound), "{error}");
}

#[tokio::test(start_paused = true)]
async fn changed_files_take_effect() {
    let fixture = Fixture::new(60, |_, _| Some(Vec::new())).await;
    assert!(fixture.lookup("later.test").await.is_err());
    let hosts = "127.0.0.8 later.test\n127.0.0.7 other.test\n";
    std::fs::write(fixture.server.directory.path().join("hosts"), hosts).expect("written");
    tokio::time::advance(RELOAD_INTERVAL).await;
    assert_eq!(fixture.lookup("later.test").await.unwrap().len(), 1);
    // A file that cannot be used changes nothing.
    std::fs::write(fixture.server.directory.path().join("resolv.conf"), "").expect("written");
    tokio::time::advance(RELOAD_INTERVAL).await;
    assert_eq!(fixture.lookup("other.test").await.unwrap().len(), 1);
}

#[test]
fn families_alternate() {
    let all = alternate(vec![v6()], vec![v4(1), v4(2)]);
    assert_eq!(all, [v6(), v4(1), v4(2)]);
}

#[tokio::test]
async fn a_check_of_the_name_servers_ignores_the_cache() {
    let working = Arc::new(AtomicBool::new(true));
    let is_working = working.clone();
    let fixture = Fixture::new(60, move |name, family| {
        let found = match (name, family) {
            ("known.test.", RecordType::A) => vec![v4(1)],
            _ => vec![],
        };
        is_working.load(SeqCst).then_some(found)
    })
    .await;
    let resolver = GuardedResolver::of_files(fixture.server.files(), AddressPolicy::new(vec![]));
    assert_eq!(resolver.ask("known.test").await, Answer::Addresses);
    assert_eq!(resolver.ask("unknown.test").await, Answer::Missing);
    assert!(resolver.knows_the_root().await);
    working.store(false, SeqCst);
    let ask = async || {
        let asked = timeout(SOON, resolver.ask("known.test")).await;
        asked.unwrap_or(Answer::None)
    };
    assert_eq!(ask().await, Answer::None);
    assert!(!timeout(SOON, resolver.knows_the_root()).await.unwrap_or(false));
    assert!(resolver.needs_name_server("known.test"));
    assert!(!resolver.needs_name_server("Local_Host.test."));
}
