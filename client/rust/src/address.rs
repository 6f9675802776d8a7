//! Addresses of servers.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The port where an address names none.
const PORT: u16 = 8001;

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Reads addresses with commas between them.
pub(crate) fn parse(text: &str) -> Result<Vec<Address>> {
    text.split(',').map(|each| each.trim().parse()).collect()
}

impl Address {
    /// Whether the address is of this machine, so that nobody on the way can read along.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
                host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
            }
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let expected = "expected HOST:PORT, HOST, [IPv6]:PORT or unix:PATH";
            Error::in_field("address", "BAD_ADDRESS", format!("{expected}, got {text:?}"))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_right = match text.starts_with('[') {
            true => host.parse::<std::net::Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.bytes().all(is_name),
        };
        let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port != 0));
        match port {
            Some(port) if is_right => Ok(Self::Tcp { host: host.into(), port }),
            _ => Err(wrong()),
        }
    }
}

/// The address as HTTP/2 names it, and as errors do. A path is no authority: a Unix socket's server
/// is `localhost`.
impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(to, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(to, "{host}:{port}"),
            Self::Unix(_) => to.write_str("localhost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn addresses_are_read() {
        let several = parse("a:1, b.example,[::1]:3,[::1]").expect("addresses");
        let expected = [tcp("a", 1), tcp("b.example", 8001), tcp("::1", 3), tcp("::1", 8001)];
        assert_eq!(several, expected);
        assert_eq!(several[2].to_string(), "[::1]:3");
        assert_eq!(parse("unix:/run/a").expect("a path"), [Address::Unix("/run/a".into())]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "a:", ":1", "a:0", "a:65536", "http://a:1", "::1", "[a]:1", "a,", "unix:"]
        {
            let error = parse(text).expect_err(text);
            assert_eq!(error.reason(), "BAD_ADDRESS");
            assert!(error.fields().contains_key("address"));
        }
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_local() {
        for (text, is_local) in [
            ("localhost:1", true),
            ("127.8.9.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/a", true),
            ("127.example:1", false),
            ("localhost.example:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(text.parse::<Address>().expect(text).is_local(), is_local, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_read_as_it_is_written(host in "[a-z0-9.-]{1,20}", port in 1u16..) {
            let address = tcp(&host, port);
            prop_assert_eq!(address.to_string().parse::<Address>().expect("an address"), address);
        }
    }
}
