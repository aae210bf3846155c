use proptest::prelude::*;

use super::*;

fn public_only() -> AddressPolicy {
    AddressPolicy::default()
}

fn parse(text: &str) -> Result<TargetUrl, TargetError> {
    TargetUrl::parse(text, &public_only())
}

#[test]
fn valid_urls_are_accepted() {
    for url in [
        "https://example.com/hooks?x=1",
        "http://example.com:8080",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
        "https://bücher.example/ä",
    ] {
        assert!(parse(url).is_ok(), "{url}: {:?}", parse(url));
    }
}

#[test]
fn invalid_urls_are_rejected() {
    assert!(matches!(parse(""), Err(TargetError::Malformed(_))));
    assert!(matches!(parse("example.com/x"), Err(TargetError::Malformed(_))));
    assert!(matches!(parse("http://"), Err(TargetError::Malformed(_))));
    assert_eq!(parse("ftp://example.com"), Err(TargetError::Scheme));
    assert_eq!(parse("file:///etc/passwd"), Err(TargetError::Scheme));
    assert_eq!(parse("javascript:alert(1)"), Err(TargetError::Scheme));
    for url in [
        "https://a@example.com",
        "https://a:b@example.com",
        "https://@example.com",
        "https://:@example.com",
    ] {
        assert_eq!(parse(url), Err(TargetError::Userinfo), "{url}");
    }
    assert_eq!(parse("https://example.com/#x"), Err(TargetError::Fragment));
    assert_eq!(parse("https://example.com:0/"), Err(TargetError::Port));
    assert_eq!(
        parse(&format!("https://example.com/{}", "a".repeat(2048))),
        Err(TargetError::TooLong)
    );
}

#[test]
fn names_that_cannot_be_resolved_are_rejected() {
    let rule = |url: &str| match parse(url) {
        Err(TargetError::HostName { rule, .. }) => Some(rule),
        _ => None,
    };
    for url in [
        "https://{{tenant}}.example.com/",
        "https://a\"b.example.com/",
        "https://a'b.example.com/",
        "https://*.example.com/",
        "https://a,b.example.com/",
    ] {
        assert_eq!(rule(url), Some(HostNameRule::Characters), "{url}");
    }
    let long = "x".repeat(64);
    for name in ["a..b", ".a.b", &long] {
        assert_eq!(rule(&format!("https://{name}.example.com/")), Some(HostNameRule::Label));
    }
    let parts = vec!["x".repeat(60); 5].join(".");
    assert_eq!(rule(&format!("https://{parts}/")), Some(HostNameRule::Length));
    for url in ["https://my_app.example.com/", "https://_a.b-.example/", "https://example.com./"] {
        assert!(parse(url).is_ok(), "{url}: {:?}", parse(url));
    }
}

#[test]
fn forbidden_addresses_are_rejected_in_every_spelling() {
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::10.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://localhost/",
        "http://localhost./",
        "http://LOCALHOST:80/",
        "http://a.localhost/",
        "http://10.1.2.3/",
        "http://172.31.255.255/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.100.100.200/",
        "http://0.0.0.0/",
        "http://255.255.255.255/",
        "http://１２７.0.0.1/",
        "http://127.0.0.1./",
    ] {
        assert!(matches!(parse(url), Err(TargetError::Forbidden(_))), "{url}: {:?}", parse(url));
    }
}

#[test]
fn the_operator_can_allow_private_networks() {
    let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")]);
    for url in ["http://127.0.0.1/", "http://localhost:9000/x", "http://[::ffff:127.0.0.1]/"] {
        assert!(TargetUrl::parse(url, &policy).is_ok(), "{url}");
    }
    assert!(TargetUrl::parse("http://10.0.0.1/", &policy).is_err());
    assert!(TargetUrl::parse("http://[::1]/", &policy).is_err());
}

proptest! {
    #[test]
    fn no_spelling_of_a_private_address_is_public(ip in any::<u32>()) {
        let v4 = Ipv4Addr::from(ip);
        let public = public_only().check(v4.into()).is_ok();
        prop_assert_eq!(public_only().check(v4.to_ipv6_mapped().into()).is_ok(), public);
        prop_assert_eq!(parse(&format!("http://{ip}/")).is_ok(), public);
        if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() {
            prop_assert!(!public);
        }
    }

    #[test]
    fn parsing_garbage_never_panics(text in ".*") {
        let _ = parse(&text);
        let _ = parse(&format!("http://{text}"));
    }
}
