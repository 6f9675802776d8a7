//! JSON Web Tokens (RFC 7519), signed by those whose public keys the server has.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use crate::access::identity::Identity;
use crate::access::options::{JwtKeys, JwtOptions};
use crate::error::Unauthenticated;

/// The fewest bits of an RSA key (RFC 7518, section 3.3).
const RSA_BITS: usize = 2048;
/// The most characters of a client's name and of a group's.
const MOST_NAME: usize = 255;
/// The most groups of a token.
const MOST_GROUPS: usize = 1000;

const OF_RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const OF_P256: &[Algorithm] = &[Algorithm::ES256];
const OF_P384: &[Algorithm] = &[Algorithm::ES384];
const OF_ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// A public key, and the algorithms by which its owner may sign.
struct Key {
    id: Option<String>,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// The public keys of those who issue tokens.
pub struct Keys(Vec<Key>);

impl Keys {
    /// The keys in the contents of the file that the options name. Of a set, keys that are not for
    /// signatures, or of a kind that is not taken, are left out.
    pub fn parse(options: &JwtOptions, contents: &[u8]) -> Result<Self, String> {
        let allowed = allowed(options)?;
        let keys = match &options.keys {
            JwtKeys::Pem(_) => vec![of_pem(contents)?],
            JwtKeys::Set(_) => of_set(contents)?,
        };
        let named = keys.iter().filter(|(id, ..)| id.is_some()).count();
        let ids: HashSet<_> = keys.iter().filter_map(|(id, ..)| id.clone()).collect();
        if ids.len() < named {
            return Err("expected keys with an own `kid` each, got two with the same".into());
        }
        let keys: Vec<_> = keys
            .into_iter()
            .map(|(id, key, algorithms)| {
                let algorithms = algorithms.iter().filter(|one| allowed.contains(one)).copied();
                Key { id, key, algorithms: algorithms.collect() }
            })
            .filter(|key| !key.algorithms.is_empty())
            .collect();
        match keys.is_empty() {
            true => Err("expected a public key for one of --jwt-algorithms, got none".into()),
            false => Ok(Self(keys)),
        }
    }

    /// The number of keys.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The client that a token names, and the time at which the token ends.
    pub fn client(
        &self,
        options: &JwtOptions,
        token: &str,
    ) -> Result<(Identity, SystemTime), Unauthenticated> {
        let header = decode_header(token).map_err(|_| Unauthenticated::BadToken)?;
        // What a critical header means is not known here, so its token cannot be trusted (RFC 7515,
        // section 4.1.11).
        if header.crit.is_some() {
            return Err(Unauthenticated::BadToken);
        }
        let key = self.key(header.kid.as_deref()).ok_or(Unauthenticated::UnknownKey)?;
        if !key.algorithms.contains(&header.alg) {
            return Err(Unauthenticated::BadToken);
        }
        let decoded =
            decode::<Map<String, Value>>(token, &key.key, &validation(options, header.alg));
        let claims = decoded.map_err(|error| fault(error.kind()))?.claims;
        // A token has one issuer (RFC 7519, section 4.1.1); the library would take a list with it.
        if options.issuer.is_some() && claims.get("iss").is_none_or(|issuer| !issuer.is_string()) {
            return Err(Unauthenticated::WrongIssuer);
        }
        let identity = identity(options, &claims).ok_or(Unauthenticated::NoName)?;
        let end = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0);
        let end =
            Duration::try_from_secs_f64(end).ok().and_then(|end| end.checked_add(options.leeway));
        let end = end.and_then(|end| SystemTime::UNIX_EPOCH.checked_add(end));
        match end.ok_or(Unauthenticated::BadToken)? {
            // The library compares whole seconds, and takes a token for one more.
            end if end <= SystemTime::now() => Err(Unauthenticated::Expired),
            end => Ok((identity, end)),
        }
    }

    /// The key of this id. A token without an id can be of the only key alone.
    fn key(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.0.as_slice()) {
            // A key of a PEM file has no id: it is meant whatever id the issuer gives it.
            (_, [only]) if only.id.is_none() || id.is_none() => Some(only),
            (None, _) => None,
            (id, keys) => keys.iter().find(|key| key.id.as_deref() == id),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().map(|key| (&key.id, &key.algorithms));
        f.debug_list().entries(keys).finish()
    }
}

fn validation(options: &JwtOptions, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_nbf = true;
    validation.leeway = options.leeway.as_secs();
    validation.set_audience(&[&options.audience]);
    let mut required = vec!["exp", "aud"];
    if let Some(issuer) = &options.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn fault(kind: &ErrorKind) -> Unauthenticated {
    match kind {
        ErrorKind::ExpiredSignature => Unauthenticated::Expired,
        ErrorKind::ImmatureSignature => Unauthenticated::NotYetValid,
        ErrorKind::InvalidAudience => Unauthenticated::WrongAudience,
        ErrorKind::InvalidIssuer => Unauthenticated::WrongIssuer,
        ErrorKind::MissingRequiredClaim(_) => Unauthenticated::MissingClaim,
        _ => Unauthenticated::BadToken,
    }
}

/// The identity that claims say; none where they say no name, or more than can be kept.
fn identity(options: &JwtOptions, claims: &Map<String, Value>) -> Option<Identity> {
    let is_name = |name: &&str| (1..=MOST_NAME).contains(&name.len());
    let name = claims.get(&options.name_claim).and_then(Value::as_str).filter(is_name)?;
    let groups = match claims.get(&options.groups_claim) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(group)) => vec![group.as_str()],
        Some(Value::Array(groups)) => {
            groups.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?
        }
        Some(_) => return None,
    };
    if groups.len() > MOST_GROUPS || !groups.iter().all(is_name) {
        return None;
    }
    Some(Identity { name: name.into(), groups: groups.into_iter().map(str::to_owned).collect() })
}

/// The algorithms that the options allow.
fn allowed(options: &JwtOptions) -> Result<Vec<Algorithm>, String> {
    let known = [OF_RSA, OF_P256, OF_P384, OF_ED25519].concat();
    let read = |name: &String| {
        let algorithm = Algorithm::from_str(name).ok().filter(|one| known.contains(one));
        algorithm.ok_or_else(|| format!("expected an asymmetric algorithm, got '{name}'"))
    };
    options.algorithms.iter().map(read).collect()
}

type Found = (Option<String>, DecodingKey, Vec<Algorithm>);

/// The key in a PEM file.
fn of_pem(contents: &[u8]) -> Result<Found, String> {
    let expected = "expected a public key in PEM (BEGIN PUBLIC KEY)";
    let (_, pem) = x509_parser::pem::parse_x509_pem(contents)
        .map_err(|_| format!("{expected}, got a file without PEM"))?;
    if pem.label != "PUBLIC KEY" {
        return Err(format!("{expected}, got {}", pem.label));
    }
    let broken = || format!("{expected}, got one that cannot be read");
    let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| broken())?;
    let algorithms = match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            check_rsa(key.key_size())?;
            OF_RSA
        }
        Ok(PublicKey::EC(key)) if key.key_size() == 256 => OF_P256,
        Ok(PublicKey::EC(key)) if key.key_size() == 384 => OF_P384,
        // The object identifier of Ed25519 (RFC 8410, section 3).
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => OF_ED25519,
        _ => return Err(format!("{expected} of RSA, P-256, P-384 or Ed25519, got another kind")),
    };
    let key = match algorithms {
        OF_RSA => DecodingKey::from_rsa_pem(contents),
        OF_ED25519 => DecodingKey::from_ed_pem(contents),
        _ => DecodingKey::from_ec_pem(contents),
    };
    Ok((None, key.map_err(|_| broken())?, algorithms.into()))
}

/// The keys of a set that are for signatures.
fn of_set(contents: &[u8]) -> Result<Vec<Found>, String> {
    // What the file holds instead may be secret, so that no error quotes it.
    let fault = |detail: &str| format!("expected a JWK set (RFC 7517): {detail}");
    let raw: Value = serde_json::from_slice(contents).map_err(|error| fault(&error.to_string()))?;
    let raw_keys = raw.get("keys").and_then(Value::as_array);
    let raw_keys = raw_keys.ok_or_else(|| fault("expected an object with a list `keys`"))?;
    for (place, key) in raw_keys.iter().enumerate() {
        if !key.is_object() {
            return Err(format!("key {}: expected an object, got something else", place + 1));
        }
        // A secret in this file is a mistake that is told before somebody else finds it.
        let is_secret = key.get("kty").is_some_and(|kind| kind == "oct") || key.get("d").is_some();
        if is_secret {
            let kind = "a secret or private one";
            return Err(format!("key {}: expected a public key, got {kind}", place + 1));
        }
    }
    let set: JwkSet = serde_json::from_value(raw).map_err(|_| fault("a key cannot be read"))?;
    let mut found = Vec::new();
    for (place, key) in set.keys.iter().enumerate() {
        let read = of_jwk(key).map_err(|error| format!("key {}: {error}", place + 1))?;
        found.extend(read);
    }
    Ok(found)
}

/// A key of a set; none where it is not for signatures, or of a kind that is not taken.
fn of_jwk(key: &Jwk) -> Result<Option<Found>, String> {
    if key.common.public_key_use.as_ref().is_some_and(|is_for| *is_for != PublicKeyUse::Signature) {
        return Ok(None);
    }
    let of_kind = match &key.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let key = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, &rsa.n);
            let bytes = key.map_err(|_| "expected the modulus in base64url")?;
            let bits = bytes.iter().skip_while(|byte| **byte == 0).count() * 8;
            check_rsa(bits)?;
            OF_RSA
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => OF_P256,
            EllipticCurve::P384 => OF_P384,
            _ => return Ok(None),
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            OF_ED25519
        }
        _ => return Ok(None),
    };
    let algorithms = match &key.common.key_algorithm {
        None => of_kind.to_vec(),
        Some(own) => of_kind.iter().filter(|one| is_same(own, **one)).copied().collect(),
    };
    let decoding = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
    Ok(Some((key.common.key_id.clone(), decoding, algorithms)))
}

fn is_same(own: &KeyAlgorithm, algorithm: Algorithm) -> bool {
    own.to_string() == format!("{algorithm:?}")
}

fn check_rsa(bits: usize) -> Result<(), String> {
    match bits {
        ..RSA_BITS => Err(format!("expected an RSA key of at least {RSA_BITS} bits, got {bits}")),
        _ => Ok(()),
    }
}
