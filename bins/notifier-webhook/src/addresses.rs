use std::{
    collections::HashMap,
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt, future::Shared};
use http_client::Lookup;
use url::{Host, Url};

/// Why nothing is posted there.
pub(crate) const PRIVATE: &str =
    "its address is private, link-local or otherwise not public, and webhook.allow_private is false";

/// Blocks that are not globally reachable, from
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>, and multicast.
const NOT_PUBLIC_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The same, within 2000::/3, from <https://www.iana.org/assignments/iana-ipv6-special-registry>. 6to4 and Teredo are
/// among them, as they hide an IPv4 address.
const NOT_PUBLIC_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// The only block from which public addresses are given out.
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Translates to IPv4 (RFC 6052), so the address within decides.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether the host is a name, of which the resolver decides, or an address that anybody may post to. Decimal, octal and
/// hexadecimal ways to write an address have been understood by the URL's parser.
pub(crate) fn is_public_or_name(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(_)) => true,
        Some(Host::Ipv4(address)) => is_public(address.into()),
        Some(Host::Ipv6(address)) => is_public(address.into()),
        None => false,
    }
}

fn is_public(address: IpAddr) -> bool {
    let within_v4 = |v4: Ipv4Addr, (block, length): (Ipv4Addr, u32)| {
        (v4.to_bits() ^ block.to_bits()).checked_shr(32 - length) == Some(0)
    };
    let within_v6 = |v6: Ipv6Addr, (block, length): (Ipv6Addr, u32)| {
        (v6.to_bits() ^ block.to_bits()).checked_shr(128 - length) == Some(0)
    };
    let low_32_bits = |v6: Ipv6Addr| Ipv4Addr::from_bits((v6.to_bits() & u128::from(u32::MAX)) as u32);
    match address {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4.iter().any(|block| within_v4(v4, *block)),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() || within_v6(v6, NAT64) => is_public(low_32_bits(v6).into()),
        IpAddr::V6(v6) => within_v6(v6, GLOBAL_UNICAST) && !NOT_PUBLIC_V6.iter().any(|block| within_v6(v6, *block)),
    }
}

type Found = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Arc<io::Error>>> + Send>>;

/// Resolves names, to public addresses or not at all if only those are allowed. The connection is made to what is answered
/// here, so a name can't be one thing when it is looked at and another when it is used.
#[derive(Clone)]
pub(crate) struct Names {
    look_up: fn(String) -> Found,
    is_allowed: fn(IpAddr) -> bool,
    under_way: Arc<Mutex<HashMap<String, Shared<Found>>>>,
}

impl Names {
    pub(crate) fn new(allow_private: bool) -> Self {
        Self::of(system_lookup, if allow_private { |_| true } else { is_public })
    }

    fn of(look_up: fn(String) -> Found, is_allowed: fn(IpAddr) -> bool) -> Self {
        Self { look_up, is_allowed, under_way: Arc::default() }
    }

    pub(crate) fn resolve(&self, name: String) -> Lookup {
        let (lookup, is_allowed) = (self.look_up_once(name), self.is_allowed);
        Box::pin(async move {
            let found = lookup.await?;
            // One that is not public among others is a trick, not an accident.
            if !found.iter().copied().all(is_allowed) {
                return Err(NotPublic.into());
            }
            Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
        })
    }

    /// Joins the lookup of this name that is under way. The system's resolver holds a thread until it has an answer, however
    /// long nobody waits for it any more, and a name whose servers are silent is to hold no more than one of them.
    fn look_up_once(&self, name: String) -> Shared<Found> {
        let mut under_way = self.under_way.lock().expect("nobody panics while holding this lock");
        under_way.retain(|_, lookup| lookup.peek().is_none());
        let begin = |name: &String| {
            let lookup = (self.look_up)(name.clone()).shared();
            tokio::spawn(lookup.clone().map(drop));
            lookup
        };
        under_way.entry(name).or_insert_with_key(begin).clone()
    }
}

fn system_lookup(name: String) -> Found {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) })
}

#[derive(Debug)]
struct NotPublic;

impl std::fmt::Display for NotPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(PRIVATE)
    }
}

impl Error for NotPublic {}

#[cfg(test)]
mod tests {
    use std::{
        str::FromStr,
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use http_client::{Bytes, Connections, Reply, Target};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::Notify,
    };

    use super::*;

    #[test]
    fn tricky_hosts_are_seen_through() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://①②⑦.0.0.1/",
            "http://%31%32%37.0.0.1/",
            "http://0/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://100.64.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://172.31.255.255/",
            "http://192.168.0.1/",
            "http://198.18.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::127.0.0.1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::ffff:a00:1]/",
            "http://[64:ff9b::127.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[64:ff9b:1::8.8.8.8]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
            "http://[2001:db8::1]/",
            "http://[fc00::1]/",
            "http://[fd12:3456::1]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "http://user:password@127.0.0.1/",
        ] {
            assert!(!is_public_or_name(&Url::parse(url).unwrap()), "{url}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in [
            "http://8.8.8.8/",
            "http://134744072/",
            "http://172.32.0.1/",
            "http://[2606:4700::1111]/",
            "http://[::ffff:8.8.8.8]/",
            "http://[64:ff9b::8.8.8.8]/",
            "http://example.org/",
            "http://localhost/",
        ] {
            assert!(is_public_or_name(&Url::parse(url).unwrap()), "{url}");
        }
    }

    async fn posted(names: Names, url: &str) -> Reply {
        let connections = Connections::new(move |name| names.resolve(name), Duration::from_secs(5)).unwrap();
        connections.post(&Target::parse(url).unwrap(), [], Bytes::new()).await
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused_however_it_is_written() {
        for url in ["http://localhost:1/", "http://LOCALHOST:1/", "http://localhost:1/?x=example.org"] {
            assert_eq!(posted(Names::new(false), url).await, Reply::Unreachable(PRIVATE.to_owned()), "{url}");
        }
    }

    #[tokio::test]
    async fn one_private_address_among_public_ones_is_refused() {
        fn mixed(_: String) -> Found {
            let found = ["93.184.215.14", "10.0.0.1"].map(|text| IpAddr::from_str(text).unwrap());
            Box::pin(async move { Ok(found.to_vec()) })
        }
        let names = Names::of(mixed, is_public);
        assert_eq!(posted(names, "http://mixed.example/").await, Reply::Unreachable(PRIVATE.to_owned()));
    }

    #[tokio::test]
    async fn a_name_whose_servers_are_silent_is_looked_up_once_however_many_ask() {
        static LOOKUPS: AtomicU32 = AtomicU32::new(0);
        static ANSWER: Notify = Notify::const_new();
        fn silent_at_first(_: String) -> Found {
            Box::pin(async move {
                if LOOKUPS.fetch_add(1, Ordering::SeqCst) == 0 {
                    ANSWER.notified().await;
                }
                Err(io::Error::other("no such name").into())
            })
        }
        let names = Names::of(silent_at_first, is_public);
        for _ in 0..5 {
            assert!(names.resolve("silent.example".to_owned()).now_or_never().is_none(), "given up");
        }
        ANSWER.notify_one();
        names.resolve("silent.example".to_owned()).await.unwrap_err();
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);
        names.resolve("silent.example".to_owned()).await.unwrap_err();
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 2, "what was answered is asked again");
    }

    async fn listeners_on_one_port() -> (TcpListener, TcpListener) {
        loop {
            let public = TcpListener::bind("127.0.0.2:0").await.unwrap();
            // What is free on the one address may be taken on the other.
            if let Ok(private) = TcpListener::bind(("127.0.0.1", public.local_addr().unwrap().port())).await {
                return (public, private);
            }
        }
    }

    /// What is connected to is what was looked at: there is no second look between the two. 127.0.0.2 stands for a
    /// public address here.
    #[tokio::test]
    async fn a_name_that_changes_is_looked_at_once_for_each_connection() {
        static LOOKUPS: AtomicU32 = AtomicU32::new(0);
        fn changing(_: String) -> Found {
            let last = if LOOKUPS.fetch_add(1, Ordering::SeqCst) == 0 { 2 } else { 1 };
            Box::pin(async move { Ok(vec![Ipv4Addr::new(127, 0, 0, last).into()]) })
        }
        let names = Names::of(changing, |address| address != Ipv4Addr::LOCALHOST);

        let (public, private) = listeners_on_one_port().await;
        let port = public.local_addr().unwrap().port();
        let url = format!("http://changing.example:{port}/");
        let answer = async {
            let (mut stream, _) = public.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let (first, ()) = tokio::join!(posted(names.clone(), &url), answer);
        assert!(matches!(first, Reply::Answered(answered) if answered.status == 204));
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);
        assert_eq!(posted(names, &url).await, Reply::Unreachable(PRIVATE.to_owned()));
        let nobody = tokio::time::timeout(Duration::from_millis(50), private.accept()).await;
        assert!(nobody.is_err(), "nobody connected to the private address");
    }
}
