//! The identities of clients.

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// The beginning of a name in the table that stands for a group.
pub const GROUP: &str = "group:";

/// The identity of a client: a name and groups, as a token or a certificate says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the client.
    pub name: String,
    /// The groups that the client is in.
    pub groups: Vec<String>,
}

impl Identity {
    /// A client that is in no group.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), groups: Vec::new() }
    }

    /// The identity that a certificate in DER says: its first URI among the subject's alternative
    /// names, else its first DNS name, else its first e-mail address, else the common name; none
    /// where it has none of them.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let first = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().find_map(pick);
        let common = || {
            let name = certificate.subject().iter_common_name().next()?;
            name.as_str().ok().map(str::to_owned)
        };
        let name = first(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .or_else(|| {
            first(|name| match name {
                GeneralName::DNSName(dns) => Some((*dns).to_owned()),
                _ => None,
            })
        })
        .or_else(|| {
            first(|name| match name {
                GeneralName::RFC822Name(email) => Some((*email).to_owned()),
                _ => None,
            })
        })
        .or_else(common);
        name.filter(|name| !name.is_empty()).map(Self::named)
    }
}
