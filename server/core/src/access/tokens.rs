//! The tokens of clients, from a file.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::access::identity::GROUP;

/// The fewest characters of a token: shorter ones can be guessed.
const LEAST: usize = 16;
/// The most characters of a token, and of a name.
const MOST: usize = 8192;
const MOST_NAME: usize = 255;
/// The most tokens of a file: each is compared with every new one that comes.
const MOST_TOKENS: usize = 10_000;
const HASHED: &str = "sha256:";

/// A hash of a token.
pub type Hash = [u8; 32];

/// The tokens of clients, by their hashes.
pub struct Tokens(Vec<(String, Hash)>);

impl Tokens {
    /// The tokens in the text of a file. The error names the line, and no token.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let token = token(line).map_err(|fault| format!("line {}: {fault}", number + 1));
                tokens.push(token?);
            }
        }
        match tokens.len() {
            0 => Err("expected lines of `name: token`, got none".into()),
            1..=MOST_TOKENS => Ok(Self(tokens)),
            found => Err(format!("expected at most {MOST_TOKENS} tokens, got {found}")),
        }
    }

    /// The number of tokens.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The name of the client whose token this is. Every known token is compared, and each in a time
    /// that does not depend on the bytes, so that the time tells nothing of a token.
    pub fn name(&self, token: &[u8]) -> Option<&str> {
        let came = hash(token);
        let mut found = None;
        for (name, known) in &self.0 {
            if verify_slices_are_equal(known, &came).is_ok() {
                found = Some(name.as_str());
            }
        }
        found
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| (name, "[redacted]"));
        f.debug_map().entries(names).finish()
    }
}

/// The hash of a token.
pub fn hash(token: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

/// The name and the hash that a line gives.
fn token(line: &str) -> Result<(String, Hash), String> {
    // A name may have colons, as a URI has; the blank behind the last of them ends it.
    let (name, token) = line.split_once(": ").ok_or(
        "expected `name: token` or `name: sha256:HASH`, got no colon with a blank behind it",
    )?;
    let (name, token) = (name.trim(), token.trim());
    let is_name = !name.is_empty() && name.len() <= MOST_NAME && name != "*";
    if !is_name || name.starts_with(GROUP) {
        return Err(format!(
            "name: expected 1 to {MOST_NAME} characters that are not `*` and do not begin with `{GROUP}`"
        ));
    }
    match token.strip_prefix(HASHED) {
        Some(hex) => unhex(hex)
            .map(|hash| (name.into(), hash))
            .ok_or_else(|| format!("{HASHED} expected 64 hexadecimal digits")),
        None if !(LEAST..=MOST).contains(&token.len()) => Err(format!(
            "token: expected {LEAST} to {MOST} characters, got {}; `openssl rand -hex 32` makes one",
            token.len()
        )),
        // These are the characters that an HTTP header may carry here (RFC 6750, section 2.1).
        None if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("token: expected printable ASCII without blanks".into())
        }
        None => Ok((name.into(), hash(token.as_bytes()))),
    }
}

fn unhex(text: &str) -> Option<Hash> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = Hash::default();
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_has_its_clients_name() {
        let hash: String =
            hash(TOKEN.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "\u{feff}# clients\n\nalice: {TOKEN}\r\n spiffe://a/b : second-{TOKEN}\nbob: sha256:{hash}x"
        );
        let error = Tokens::parse(&text).expect_err("a hash with a letter too many");
        assert_eq!(error, "line 5: sha256: expected 64 hexadecimal digits");
        let tokens = Tokens::parse(text.trim_end_matches('x')).expect("tokens");
        assert_eq!(tokens.count(), 3);
        assert_eq!(tokens.name(format!("second-{TOKEN}").as_bytes()), Some("spiffe://a/b"));
        assert_eq!(tokens.name(TOKEN.as_bytes()), Some("bob"), "the last line wins");
        for wrong in ["", &TOKEN[1..], &format!("{TOKEN} "), &TOKEN.to_uppercase(), &hash] {
            assert_eq!(tokens.name(wrong.as_bytes()), None, "{wrong}");
        }
        let shown = format!("{tokens:?}");
        assert!(shown.contains("alice") && !shown.contains(TOKEN) && !shown.contains(&hash));
    }

    #[test]
    fn a_wrong_line_is_named_and_its_token_is_not() {
        let secret = "zzzzzzzzzzzzzzzzzzzz";
        for (line, problem) in [
            (secret.to_owned(), "no colon"),
            (format!("alice:{secret}"), "no colon"),
            (format!(": {secret}"), "name: expected"),
            (format!("*: {secret}"), "name: expected"),
            (format!("group:a: {secret}"), "name: expected"),
            ("alice: short".into(), "expected 16 to 8192 characters, got 5"),
            (format!("alice: {}", secret.repeat(1000)), "got 20000"),
            (format!("alice: {secret} {secret}"), "without blanks"),
            (format!("alice: {secret}é"), "printable ASCII"),
            ("alice: sha256:12".into(), "64 hexadecimal digits"),
            (format!("alice: sha256:{}", "+1".repeat(32)), "64 hexadecimal digits"),
        ] {
            let error = Tokens::parse(&format!("# one\n{line}")).expect_err(&line);
            assert!(error.starts_with("line 2: ") && error.contains(problem), "{error}");
            assert!(!error.contains(secret), "{error}");
        }
        let error = Tokens::parse("# none\n").expect_err("none");
        assert_eq!(error, "expected lines of `name: token`, got none");
    }
}
