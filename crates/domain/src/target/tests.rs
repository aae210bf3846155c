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
    for url in ["", "example.com/x", "{{url}}", "http://", "http:///example.com", "https://:80/"] {
        assert!(matches!(parse(url), Err(TargetError::Malformed(_))), "{url}: {:?}", parse(url));
    }
    for url in [
        "ftp://example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "localhost:8080/x",
        "http:example.com",
        "https:/example.com",
        "http:\\\\example.com",
    ] {
        assert_eq!(parse(url), Err(TargetError::Scheme), "{url}");
    }
    for url in [
        "https://a@example.com",
        "https://a:b@example.com",
        "https://@example.com",
        "https://:@example.com",
        "https://example.com\\@example.org",
    ] {
        assert_eq!(parse(url), Err(TargetError::Userinfo), "{url}");
    }
    assert_eq!(parse("https://example.com/#x"), Err(TargetError::Fragment));
    assert_eq!(parse("https://example.com#"), Err(TargetError::Fragment));
    assert_eq!(parse("https://example.com:0/"), Err(TargetError::Port));
    for port in ["{{port}}", "80:80", "80\\x", "65536", "-1"] {
        let url = format!("https://example.com:{port}/");
        assert!(matches!(parse(&url), Err(TargetError::Malformed(_))), "{url}: {:?}", parse(&url));
    }
    for url in [
        "https://exam\tple.com/",
        "https://example.com/a\nb",
        "\0https://example.com/",
        "https://example.com/\u{202e}",
    ] {
        assert_eq!(parse(url), Err(TargetError::ControlCharacter), "{url:?}");
    }
    for path in ["a".repeat(2048), "\u{e4}".repeat(400)] {
        assert_eq!(parse(&format!("https://example.com/{path}")), Err(TargetError::TooLong));
    }
}

#[test]
fn names_that_no_request_can_be_sent_to_are_rejected() {
    let rule = |url: &str| match parse(url) {
        Err(TargetError::HostName { rule, .. }) => Some(rule),
        _ => None,
    };
    for host in ["{{tenant}}.example.com", "<host>", "$HOST", "${HOST}.example.com", "{id}.a.b"] {
        for url in [format!("https://{host}/"), format!("http://{host}:80")] {
            assert_eq!(rule(&url), Some(HostNameRule::Placeholder), "{url}");
        }
    }
    for host in ["a\"b.c", "a'b.c", "*.a.b", "a,b.c", "a b.c", "a\\b.c", "a|b.c", "a%22b.c", "a!"] {
        let url = format!("https://{host}/");
        let is_rejected = rule(&url) == Some(HostNameRule::Characters)
            || matches!(parse(&url), Err(TargetError::Malformed(_)));
        assert!(is_rejected, "{url}: {:?}", parse(&url));
    }
    assert_eq!(rule("https://a\"b.example/"), Some(HostNameRule::Characters));
    let long = "x".repeat(64);
    for name in ["a..b", ".a.b", "a.b..", &long] {
        assert_eq!(rule(&format!("http://{name}/")), Some(HostNameRule::Label), "{name}");
    }
    let parts = vec!["x".repeat(60); 5].join(".");
    assert_eq!(rule(&format!("https://{parts}/")), Some(HostNameRule::Length));
    for name in ["-a.example", "a-.example", "a.-"] {
        assert_eq!(rule(&format!("https://{name}/")), Some(HostNameRule::Hyphen), "{name}");
        assert_eq!(parse(&format!("http://{name}/")).err(), None, "{name}");
    }
    for host in
        ["example.1", "1.2.3.4.5", "a.0x1f", "[fe80::1%25eth0]", "[::1", "[a]", "xn--a-ecp.ru"]
    {
        let url = format!("http://{host}/");
        assert!(matches!(parse(&url), Err(TargetError::Malformed(_))), "{url}: {:?}", parse(&url));
    }
    for url in ["https://my_app.example.com/", "http://_a.b-.example/", "https://example.com./"] {
        assert!(parse(url).is_ok(), "{url}: {:?}", parse(url));
    }
}

#[test]
fn a_url_is_kept_as_it_was_given() {
    for (given, sent) in [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM:443/A/%2e%2e/../b?", "https://example.com/A/%2e%2e/../b?"),
        ("https://b\u{fc}cher.example?q='\u{fc}'", "https://xn--bcher-kva.example/?q='%C3%BC'"),
        ("https://%65xample.com/{{token}}?a=&b", "https://example.com/{{token}}?a=&b"),
        ("http://93.184.216.34:8080//x y", "http://93.184.216.34:8080//x%20y"),
    ] {
        let url = parse(given).expect("a target");
        assert_eq!((url.as_str(), url.sent_url().as_str()), (given, sent));
        let restored = TargetUrl::from_stored(url.as_str()).expect("a stored URL");
        assert_eq!(restored, url);
        assert_eq!(TargetUrl::from_stored(sent).expect("a stored URL").sent_url(), sent);
    }
    assert_eq!(parse(" https://example.com/a \n").unwrap().as_str(), "https://example.com/a");
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
        "http://127%2e0%2e0%2e1/",
        "http://%6c%6fcalhost/",
        "http://127\u{3002}0.0.1/",
        "http://\u{24db}ocalhost/..",
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
