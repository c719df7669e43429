//! Files of user names and password hashes, as `htpasswd` writes them: `name:hash`, one per line.

use argon2::{
    Argon2,
    password_hash::{PasswordVerifier, phc},
};
use sha_crypt::{PasswordHashRef, ShaCrypt};
use std::{collections::HashMap, fmt};

/// The users of a file.
#[derive(Debug)]
pub(crate) struct UserFile {
    users: HashMap<Box<str>, PasswordHash>,
    /// The hash whose verification takes longest, for unknown users.
    costliest: PasswordHash,
}

/// The hash of a password.
#[derive(Clone)]
pub(crate) struct PasswordHash {
    scheme: HashScheme,
    encoded: Box<str>,
    /// The approximate time of a verification, in microseconds.
    cost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HashScheme {
    Bcrypt,
    Argon2,
    ShaCrypt,
}

/// An error in a file of users, with the number of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub(crate) struct BadUserFile {
    pub(crate) line: usize,
    pub(crate) error: BadUser,
}

/// An error in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadUser {
    #[error("the file has no users")]
    NoUsers,
    #[error("the file is not UTF-8")]
    Encoding,
    #[error("there is no `:` between a user name and a hash")]
    NoHash,
    #[error("the user name is empty, longer than {MAX_NAME_LEN} bytes, or has control characters")]
    Name,
    #[error("the user name has characters that a header cannot carry safely")]
    NameForHeader,
    #[error("the user name occurs twice")]
    Repeated,
    #[error("this is an MD5 hash ($apr1$), which is too weak")]
    Md5,
    #[error("this is no hash that is accepted: it may be a password, or use DES, SHA-1 or MD5")]
    Scheme,
    #[error("the hash is incomplete or malformed")]
    Malformed,
    #[error("the cost of the hash is too high: each sign-in would take seconds")]
    Cost,
}

// === impl UserFile ===

impl UserFile {
    /// Parses a file. If the names are `for_header`, they must be printable ASCII.
    pub(crate) fn parse(bytes: &[u8], for_header: bool) -> Result<UserFile, BadUserFile> {
        let at = |line: usize, error| BadUserFile { line, error };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            at(line, BadUser::Encoding)
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut users = HashMap::new();
        let mut costliest: Option<PasswordHash> = None;
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, rest) = line.split_once(':').ok_or(at(number, BadUser::NoHash))?;
            if name.is_empty() || name.len() > MAX_NAME_LEN || name.chars().any(char::is_control) {
                return Err(at(number, BadUser::Name));
            }
            if for_header && !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(at(number, BadUser::NameForHeader));
            }
            // nginx permits a comment after another `:`.
            let encoded = rest.split(':').next().unwrap_or_default().trim();
            let hash = PasswordHash::parse(encoded).map_err(|error| at(number, error))?;
            if costliest.as_ref().is_none_or(|most| most.cost < hash.cost) {
                costliest = Some(hash.clone());
            }
            if users.insert(name.into(), hash).is_some() {
                return Err(at(number, BadUser::Repeated));
            }
        }
        let costliest = costliest.ok_or(at(1, BadUser::NoUsers))?;
        Ok(UserFile { users, costliest })
    }

    /// Returns whether the file has this user.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// Returns whether the password is that of the user. An unknown user takes as long as the costliest hash. Blocks
    /// for the time of one hash.
    pub(crate) fn verify(&self, name: &str, password: &[u8]) -> bool {
        match self.users.get(name) {
            Some(hash) => hash.verify(password),
            None => {
                self.costliest.verify(password);
                false
            }
        }
    }
}

// === impl PasswordHash ===

impl PasswordHash {
    fn parse(encoded: &str) -> Result<PasswordHash, BadUser> {
        let mut fields = encoded.split('$');
        // The text before the first `$`.
        if fields.next() != Some("") {
            return Err(BadUser::Scheme);
        }
        let (scheme, cost) = match fields.next().unwrap_or_default() {
            "2a" | "2b" | "2y" => (HashScheme::Bcrypt, bcrypt_cost(encoded)?),
            "argon2id" | "argon2i" => (HashScheme::Argon2, argon2_cost(encoded)?),
            "5" => (HashScheme::ShaCrypt, sha_crypt_cost(encoded, 43)?),
            "6" => (HashScheme::ShaCrypt, sha_crypt_cost(encoded, 86)?),
            "apr1" | "1" => return Err(BadUser::Md5),
            _ => return Err(BadUser::Scheme),
        };
        Ok(PasswordHash {
            scheme,
            encoded: encoded.into(),
            cost,
        })
    }

    /// Compares in constant time.
    fn verify(&self, password: &[u8]) -> bool {
        let encoded = &*self.encoded;
        match self.scheme {
            HashScheme::Bcrypt => bcrypt::verify(password, encoded).unwrap_or(false),
            HashScheme::Argon2 => phc::PasswordHash::new(encoded)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            HashScheme::ShaCrypt => PasswordHashRef::new(encoded)
                .is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok()),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

fn bcrypt_cost(encoded: &str) -> Result<u64, BadUser> {
    let parts: bcrypt::HashParts = encoded.parse().map_err(|_| BadUser::Malformed)?;
    match parts.get_cost() {
        cost @ 4..=MAX_BCRYPT_COST => Ok((1 << cost) * 60),
        0..4 => Err(BadUser::Malformed),
        _ => Err(BadUser::Cost),
    }
}

fn argon2_cost(encoded: &str) -> Result<u64, BadUser> {
    let hash = phc::PasswordHash::new(encoded).map_err(|_| BadUser::Malformed)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(BadUser::Malformed);
    }
    let params = argon2::Params::try_from(&hash).map_err(|_| BadUser::Malformed)?;
    let (memory, passes) = (u64::from(params.m_cost()), u64::from(params.t_cost()));
    if memory > MAX_ARGON2_KIB || memory * passes > MAX_ARGON2_WORK || params.p_cost() > 64 {
        return Err(BadUser::Cost);
    }
    Ok(memory * passes)
}

/// `$6$rounds=N$salt$hash`; without rounds they are 5000.
fn sha_crypt_cost(encoded: &str, hash_len: usize) -> Result<u64, BadUser> {
    let fields: Vec<&str> = encoded.split('$').skip(2).collect();
    let (rounds, hash) = match fields[..] {
        [_, hash] => (5000, hash),
        [params, _, hash] => {
            let rounds = params.strip_prefix("rounds=").ok_or(BadUser::Malformed)?;
            (rounds.parse().map_err(|_| BadUser::Malformed)?, hash)
        }
        _ => return Err(BadUser::Malformed),
    };
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    if hash.len() != hash_len
        || !hash.bytes().all(is_char)
        || PasswordHashRef::new(encoded).is_err()
    {
        return Err(BadUser::Malformed);
    }
    match rounds {
        1000..=MAX_SHA_CRYPT_ROUNDS => Ok(rounds / 2),
        0..1000 => Err(BadUser::Malformed),
        _ => Err(BadUser::Cost),
    }
}

// === impl BadUser ===

impl BadUser {
    /// Returns how the error is corrected.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            BadUser::NameForHeader => {
                "use printable ASCII in user names, or leave them out of requests: header = \"\""
            }
            BadUser::Repeated => "remove one of the lines",
            BadUser::Cost => {
                "bcrypt up to 16, argon2 up to 256 MiB, sha-crypt up to 1000000 rounds: `htpasswd -B -C 12 FILE NAME`"
            }
            _ => {
                "make the line with `htpasswd -B FILE NAME`, or `openssl passwd -6` for the part after `NAME:`"
            }
        }
    }
}

/// A verification takes about four seconds.
const MAX_BCRYPT_COST: u32 = 16;

/// 256 MiB, twice at one time.
const MAX_ARGON2_KIB: u64 = 256 * 1024;

/// KiB times passes: about two seconds.
const MAX_ARGON2_WORK: u64 = 2 * 1024 * 1024;

const MAX_SHA_CRYPT_ROUNDS: u64 = 1_000_000;

/// In bytes.
pub(crate) const MAX_NAME_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2b$04$nDhbx85eArCso/8L2/ysuOc6nXn/IoRPeK74h0.glBeXT7lFfWBLW";
    const SHA: &str = "$5$rounds=1001$3.Eqd5Qys8fBDcun$b423K0iSEafH4s2E.AVzaIJkMOAsOF/HyPJE.Vd7qTD";

    #[test]
    fn unknown_user_costs_the_costliest_hash_of_the_file() {
        let text = format!(
            "a:{SHA}\nb:{}\nc:{BCRYPT}\n",
            BCRYPT.replace("$04$", "$06$")
        );
        let users = UserFile::parse(text.as_bytes(), true).unwrap();
        assert!(users.costliest.encoded.starts_with("$2b$06$"));
        assert!(users.has("a") && !users.has("d"));
        assert!(!users.verify("d", b"x"));
        assert!(users.verify("c", b"x") && !users.verify("c", b"y"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let text = [format!("a:{SHA}\n").as_bytes(), b"b\xff:x\n"].concat();
        let error = UserFile::parse(&text, false).unwrap_err();
        assert_eq!((error.line, error.error), (2, BadUser::Encoding));
    }

    #[test]
    fn debug_output_has_no_hash() {
        let users = UserFile::parse(format!("a:{BCRYPT}").as_bytes(), true).unwrap();
        assert!(!format!("{users:?}").contains("nDhb"));
    }
}
