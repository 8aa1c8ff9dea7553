use std::collections::HashMap;

use super::*;

/// Names, and the addresses that they are said to have.
struct Told(HashMap<&'static str, Vec<&'static str>>);

#[tonic::async_trait]
impl Resolve for Told {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.0.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(found.iter().map(|address| address.parse().unwrap()).collect())
    }
}

#[test]
fn no_spelling_of_an_address_that_is_not_public_may_be_called() {
    for host in [
        // Loopback, in all its spellings.
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.255.255.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "0.0.0.0",
        "[::]",
        // Private and shared.
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[fec0::1]",
        // Link-local and the metadata services of clouds.
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        // IPv4 in tunnels.
        "[2002:7f00:1::1]",
        "[2001:0:7f00:1::1]",
        // Multicast, broadcast, reserved, documentation, benchmarks.
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "192.88.99.1",
        "[ff02::1]",
        "[2001:db8::1]",
        "[3fff::1]",
    ] {
        let refused = Rules::default().target(&format!("https://{host}/hook"));
        assert_eq!(refused, Err(Refused::Address), "{host}");
    }
}

#[test]
fn public_addresses_may_be_called() {
    for host in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "169.253.255.255",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "[2606:4700::1111]",
        "[2a00:1450::1]",
    ] {
        assert!(Rules::default().target(&format!("https://{host}/hook")).is_ok(), "{host}");
    }
}

#[test]
fn only_https_without_user_or_fragment_may_be_called() {
    for url in [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "gopher://hooks.example/",
        "https://",
        "https://user@hooks.example/",
        "https://user:password@hooks.example/",
        "https://:password@hooks.example/",
        "https://hooks.example/#here",
        "https://hooks.example:99999/",
        "https://hooks example/",
        "hooks.example",
        "",
    ] {
        assert_eq!(Rules::default().target(url), Err(Refused::Url), "{url}");
    }
    let plain = Rules { http: true, networks: Vec::new() };
    assert!(!plain.target("http://hooks.example/").unwrap().tls);
}

#[test]
fn a_url_says_where_to_connect_and_what_to_ask_for() {
    let target = Rules::default().target("https://Hooks.Example:8443/a%20b?c=d").unwrap();

    assert_eq!(target.host, Host::Domain("hooks.example".to_owned()));
    assert_eq!((target.port, target.authority.as_str()), (8443, "hooks.example:8443"));
    assert_eq!(target.path, "/a%20b?c=d");
    let target = Rules::default().target("https://hooks.example").unwrap();
    assert_eq!((target.port, target.authority.as_str(), target.path.as_str()), (443, "hooks.example", "/"));
}

#[tokio::test]
async fn a_name_with_one_address_that_is_not_public_is_not_called_at_all() {
    let told = Told(HashMap::from([
        ("good.example", vec!["1.1.1.1", "2606:4700::1111"]),
        ("private.example", vec!["10.0.0.1"]),
        ("mixed.example", vec!["1.1.1.1", "169.254.169.254"]),
        ("mapped.example", vec!["::ffff:10.0.0.1"]),
        ("empty.example", vec![]),
    ]));
    let rules = Rules::default();
    let ask = async |name: &str| {
        let target = rules.target(&format!("https://{name}/")).unwrap();
        rules.addresses(&target, &told).await
    };

    let good = ["1.1.1.1:443", "[2606:4700::1111]:443"].map(|address| address.parse().unwrap());
    assert_eq!(ask("good.example").await, Ok(good.to_vec()));
    for name in ["private.example", "mixed.example", "mapped.example"] {
        assert_eq!(ask(name).await, Err(Refused::Address), "{name}");
    }
    for name in ["empty.example", "unknown.example"] {
        assert_eq!(ask(name).await, Err(Refused::Name), "{name}");
    }
}

#[tokio::test]
async fn the_name_of_this_machine_is_refused_as_its_address_is() {
    let rules = Rules::default();
    let target = rules.target("https://localhost/hook").unwrap();

    assert_eq!(rules.addresses(&target, &SystemResolver).await, Err(Refused::Address));
}

#[test]
fn networks_that_are_let_in_are_let_in_alone() {
    let rules = Rules { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] };

    assert!(rules.target("http://127.0.0.1:1/").is_ok());
    assert!(rules.target("http://[::ffff:127.0.0.1]/").is_ok());
    assert_eq!(rules.target("http://10.0.0.1/"), Err(Refused::Address));
    assert_eq!(rules.target("http://[::1]/"), Err(Refused::Address));
}
