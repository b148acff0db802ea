use std::borrow::Cow;
use std::fmt;

use argon2::password_hash::phc::{self, Output, Salt};

/// The most memory that a stored Argon2 hash may ask for, in KiB.
const MAX_ARGON2_MEMORY_KIB: u32 = 256 * 1024;
/// The most passes that a stored Argon2 hash may ask for.
const MAX_ARGON2_ITERATIONS: u32 = 16;
/// The most lanes that a stored Argon2 hash may ask for.
const MAX_ARGON2_PARALLELISM: u32 = 16;
/// The most rounds of PBKDF2 that a stored hash may ask for: over three times OWASP's recommendation. The longest
/// digest takes two blocks of SHA-256, so twice the rounds.
const MAX_PBKDF2_ROUNDS: u32 = 2_000_000;
/// The largest block of a stored scrypt hash, in units of 128 bytes.
const MAX_SCRYPT_BLOCK_SIZE: u32 = 64;
/// The most parallel runs that a stored scrypt hash may ask for; each has a block in memory, and they are run in turn.
const MAX_SCRYPT_PARALLELISM: u32 = 16;
/// The most memory that a stored scrypt hash may ask for, in bytes: 128 · N · r.
const MAX_SCRYPT_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// The most work that a stored scrypt hash may ask for, in bytes mixed: 128 · N · r · p.
const MAX_SCRYPT_WORK_BYTES: u64 = 1024 * 1024 * 1024;
/// The bcrypt costs that are run: 2^4 to 2^14 rounds.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// A stored password hash of a known form that can be verified in bounded time and memory: Argon2, PBKDF2, scrypt or
/// Firebase's scrypt as a PHC string, or bcrypt.
///
/// Verifying one takes at most 256 MiB and about five seconds, so a hash that was written into the table or imported
/// cannot make a sign-in run for minutes or out of memory.
#[derive(Clone, Eq, PartialEq)]
pub struct PasswordHash {
    text: String,
    form: Form,
}

/// The parsed form of a [`PasswordHash`].
#[derive(Clone, Eq, PartialEq)]
pub enum Form {
    /// A PHC string.
    Phc {
        /// The function that makes the digest.
        function: Box<Function>,
        /// 8–48 bytes.
        salt: Salt,
        /// 10–64 bytes.
        digest: Output,
    },
    /// bcrypt, which looks at the first 72 bytes of a password only.
    Bcrypt,
}

/// The function of a PHC string, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// Argon2id, Argon2i or Argon2d (RFC 9106).
    Argon2(argon2::Algorithm, argon2::Version, argon2::Params),
    /// PBKDF2 (RFC 8018) with HMAC-SHA-256 or HMAC-SHA-512.
    Pbkdf2 {
        /// The hash function of the HMAC.
        algorithm: pbkdf2::Algorithm,
        /// 1,000–2,000,000.
        rounds: u32,
    },
    /// scrypt (RFC 7914).
    Scrypt(scrypt::Params),
    /// Firebase's scrypt: the key stream of AES-256 in counter mode from zero, under the 32 bytes that scrypt derives.
    /// Firebase exports this key stream, combined by XOR with the signer key of the project.
    FirebaseScrypt(scrypt::Params),
}

impl Eq for Function {}

/// The reason why a text is not a [`PasswordHash`], as the rest of a sentence that begins with "The password hash".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordHashError(Cow<'static, str>);

impl fmt::Display for PasswordHashError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PasswordHash {
    /// Parses a stored hash. The error names the rule that it breaks: its form, or a bound of its cost.
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let form = match text.strip_prefix('$').and_then(|rest| rest.split('$').next()) {
            Some("2a" | "2b" | "2y") => bcrypt(text)?,
            Some("argon2d" | "argon2i" | "argon2id") => phc(text, argon2)?,
            Some("pbkdf2-sha256" | "pbkdf2-sha512") => phc(text, pbkdf2)?,
            Some("scrypt") => phc(text, |hash| scrypt(hash).map(Function::Scrypt))?,
            Some("firebase-scrypt") => phc(text, |hash| scrypt(hash).map(Function::FirebaseScrypt))?,
            _ => return refuse("must be an Argon2, PBKDF2, scrypt or bcrypt hash"),
        };
        Ok(Self { text: text.to_owned(), form })
    }

    /// The text to store.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The parsed form.
    #[must_use]
    pub fn form(&self) -> &Form {
        &self.form
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash")
    }
}

fn refuse<T>(rule: impl Into<Cow<'static, str>>) -> Result<T, PasswordHashError> {
    Err(PasswordHashError(rule.into()))
}

fn phc(
    text: &str,
    function: impl FnOnce(&phc::PasswordHash) -> Result<Function, PasswordHashError>,
) -> Result<Form, PasswordHashError> {
    let hash = match phc::PasswordHash::new(text) {
        Ok(hash) => hash,
        Err(error) => return refuse(format!("must be a complete PHC string: {error}")),
    };
    let (Some(salt), Some(digest)) = (hash.salt, hash.hash) else {
        return refuse("must be a complete PHC string, with a salt and a digest");
    };
    Ok(Form::Phc { function: Box::new(function(&hash)?), salt, digest })
}

fn argon2(hash: &phc::PasswordHash) -> Result<Function, PasswordHashError> {
    if hash.params.iter().any(|(name, _)| name.as_str() == "keyid") {
        return refuse("must not need a secret key (keyid)");
    }
    knows_only(hash, &["m", "t", "p", "data"])?;
    let (memory, passes, lanes) = (parameter(hash, "m")?, parameter(hash, "t")?, parameter(hash, "p")?);
    let bounded =
        memory <= MAX_ARGON2_MEMORY_KIB && passes <= MAX_ARGON2_ITERATIONS && lanes <= MAX_ARGON2_PARALLELISM;
    // The reference decoder reads a hash without a version as the first version, which wrote none.
    let version = argon2::Version::try_from(hash.version.unwrap_or(argon2::Version::V0x10.into()));
    match (argon2::Algorithm::new(hash.algorithm), version, argon2::Params::try_from(hash)) {
        (Ok(algorithm), Ok(version), Ok(params)) if bounded => {
            Ok(Function::Argon2(algorithm, version, params))
        }
        (_, Err(_), _) => refuse("must have version 16 (which is also meant without one) or 19"),
        _ => refuse("must have m between 8·p KiB and 256 MiB, t between 1 and 16, and p between 1 and 16"),
    }
}

fn pbkdf2(hash: &phc::PasswordHash) -> Result<Function, PasswordHashError> {
    has_no_version(hash)?;
    knows_only(hash, &["i", "l"])?;
    has_length(hash)?;
    let rounds = parameter(hash, "i")?;
    match pbkdf2::Algorithm::new(hash.algorithm) {
        Ok(algorithm) if (pbkdf2::Params::MIN_ROUNDS..=MAX_PBKDF2_ROUNDS).contains(&rounds) => {
            Ok(Function::Pbkdf2 { algorithm, rounds })
        }
        _ => refuse("must have between 1000 and 2000000 rounds (i)"),
    }
}

fn scrypt(hash: &phc::PasswordHash) -> Result<scrypt::Params, PasswordHashError> {
    has_no_version(hash)?;
    knows_only(hash, &["ln", "r", "p", "l"])?;
    has_length(hash)?;
    let (log_n, r, p) = (parameter(hash, "ln")?, parameter(hash, "r")?, parameter(hash, "p")?);
    let bounds =
        "must have ln ≥ 1, r between 1 and 64, p between 1 and 16, 128·N·r ≤ 256 MiB, and 128·N·r·p ≤ 1 GiB";
    // Checked before the library sees them, whose own checks multiply without looking for an overflow.
    if !(1..=MAX_SCRYPT_BLOCK_SIZE).contains(&r) || !(1..=MAX_SCRYPT_PARALLELISM).contains(&p) {
        return refuse(bounds);
    }
    let memory = 1_u64.checked_shl(log_n).unwrap_or(u64::MAX).saturating_mul(128 * u64::from(r));
    let work = memory.saturating_mul(u64::from(p));
    let bounded = log_n >= 1 && memory <= MAX_SCRYPT_MEMORY_BYTES && work <= MAX_SCRYPT_WORK_BYTES;
    match u8::try_from(log_n).map(|log_n| scrypt::Params::new(log_n, r, p)) {
        Ok(Ok(params)) if bounded => Ok(params),
        _ => refuse(bounds),
    }
}

fn bcrypt(text: &str) -> Result<Form, PasswordHashError> {
    match text.parse::<bcrypt::HashParts>() {
        Ok(parts) if BCRYPT_COSTS.contains(&parts.get_cost()) => Ok(Form::Bcrypt),
        Ok(_) => refuse("must have a cost between 4 and 14"),
        Err(error) => refuse(format!("must be a bcrypt hash as bcrypt itself writes it: {error}")),
    }
}

/// The number that a PHC string gives for a parameter. There are no defaults, because libraries differ in them.
fn parameter(hash: &phc::PasswordHash, name: &str) -> Result<u32, PasswordHashError> {
    hash.params.get_decimal(name).map_or_else(|| refuse(format!("must have the number {name}")), Ok)
}

/// Refuses parameters of other names, and one that is given twice: readers disagree about the value that counts then.
fn knows_only(hash: &phc::PasswordHash, names: &[&str]) -> Result<(), PasswordHashError> {
    let mut left = names.to_vec();
    for (name, _) in hash.params.iter() {
        match left.iter().position(|&known| known == name.as_str()) {
            Some(position) => drop(left.swap_remove(position)),
            None => {
                return refuse(format!("must have no other parameters than {}, each once", names.join(", ")));
            }
        }
    }
    Ok(())
}

fn has_no_version(hash: &phc::PasswordHash) -> Result<(), PasswordHashError> {
    if hash.version.is_some() { refuse("must have no version (v)") } else { Ok(()) }
}

/// Refuses a length (`l`) that is not the one of the digest.
fn has_length(hash: &phc::PasswordHash) -> Result<(), PasswordHashError> {
    let length = hash.hash.map(|digest| digest.len().to_string());
    match hash.params.get_str("l") {
        Some(told) if Some(told) != length.as_deref() => {
            refuse("must have l equal to the digest's length in bytes")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT_AND_HASH: &str = "c2FsdHNhbHRzYWx0c2FsdA$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE";
    const BCRYPT_TAIL: &str = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

    /// The rule that a hash breaks.
    fn rule(text: &str) -> String {
        PasswordHash::parse(text).map_or_else(|error| error.to_string(), |_| "accepted".to_owned())
    }

    fn version(text: &str) -> Option<argon2::Version> {
        let Form::Phc { function, .. } = PasswordHash::parse(text).ok()?.form else { return None };
        if let Function::Argon2(_, version, _) = *function { Some(version) } else { None }
    }

    #[test]
    fn an_argon2_hash_without_a_version_has_the_first_one() {
        for (written, read) in [
            ("", argon2::Version::V0x10),
            ("v=16$", argon2::Version::V0x10),
            ("v=19$", argon2::Version::V0x13),
        ] {
            let text = format!("$argon2id${written}m=19456,t=2,p=1${SALT_AND_HASH}");
            assert_eq!(version(&text), Some(read), "{text}");
        }
    }

    #[test]
    fn bcrypt_has_three_spellings() {
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let bcrypt = PasswordHash::parse(&format!("{prefix}10${BCRYPT_TAIL}")).unwrap();
            assert!(*bcrypt.form() == Form::Bcrypt);
        }
    }

    #[test]
    fn a_refusal_names_the_rule() {
        for (text, expected) in [
            ("", "must be an Argon2, PBKDF2, scrypt or bcrypt hash"),
            ("Password1234!", "must be an Argon2, PBKDF2, scrypt or bcrypt hash"),
            ("5f4dcc3b5aa765d61d8327deb882cf99", "must be an Argon2, PBKDF2, scrypt or bcrypt hash"),
            ("$1$salt$hash", "must be an Argon2, PBKDF2, scrypt or bcrypt hash"),
            (&format!("$2x$10${BCRYPT_TAIL}"), "must be an Argon2, PBKDF2, scrypt or bcrypt hash"),
            (
                &format!("$argon2x$v=19$m=19456,t=2,p=1${SALT_AND_HASH}"),
                "must be an Argon2, PBKDF2, scrypt or bcrypt hash",
            ),
            ("$2b$10$tooshort", "must be a bcrypt hash as bcrypt itself writes it: "),
            // A salt with bits that bcrypt leaves zero: some libraries wrote it, and others never verify it.
            (
                "$2b$10$N9qo8uLOickgx2ZMRZoMy/IjZAgcfl7p92ldGxad68LJZdL17lhWy",
                "must be a bcrypt hash as bcrypt itself writes it: ",
            ),
            (&format!("$2b$15${BCRYPT_TAIL}"), "must have a cost between 4 and 14"),
            ("$argon2id$v=19$m=19456,t=2,p=1$", "must be a complete PHC string"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA", "must be a complete PHC string"),
            (
                "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$YWFhYWFhYWFhYWFh",
                "must be a complete PHC string: salt too short",
            ),
            (
                &format!("$argon2id$v=19$m=8,t=1,p=256,p=1${SALT_AND_HASH}"),
                "must have no other parameters than m, t, p, data, each once",
            ),
            (&format!("$argon2id$v=19$m=19456,t=2${SALT_AND_HASH}"), "must have the number p"),
            (&format!("$argon2id$v=19${SALT_AND_HASH}"), "must have the number m"),
            (&format!("$argon2id$v=18$m=19456,t=2,p=1${SALT_AND_HASH}"), "must have version 16"),
            (
                &format!("$argon2id$v=19$m=19456,t=2,p=1,keyid=YWE${SALT_AND_HASH}"),
                "must not need a secret key",
            ),
            (&format!("$argon2id$v=19$m=262145,t=2,p=1${SALT_AND_HASH}"), "must have m between"),
            (&format!("$pbkdf2-sha256$i=999${SALT_AND_HASH}"), "must have between 1000 and 2000000 rounds"),
            (&format!("$pbkdf2-sha256$l=32${SALT_AND_HASH}"), "must have the number i"),
            (
                &format!("$pbkdf2-sha256$i=1000,l=31${SALT_AND_HASH}"),
                "must have l equal to the digest's length",
            ),
            (&format!("$pbkdf2-sha256$v=1$i=1000${SALT_AND_HASH}"), "must have no version"),
            (&format!("$scrypt$v=1$ln=4,r=8,p=1${SALT_AND_HASH}"), "must have no version"),
            (
                &format!("$scrypt$ln=4,r=8,p=1,l=33${SALT_AND_HASH}"),
                "must have l equal to the digest's length",
            ),
            (&format!("$scrypt$ln=0,r=8,p=1${SALT_AND_HASH}"), "must have ln ≥ 1"),
            (&format!("$scrypt$ln=0,r=1,p=8388600${SALT_AND_HASH}"), "must have ln ≥ 1"),
            (&format!("$scrypt$ln=4,r=65,p=1${SALT_AND_HASH}"), "must have ln ≥ 1"),
            (&format!("$scrypt$ln=4,r=8,p=17${SALT_AND_HASH}"), "must have ln ≥ 1"),
            // Their product overflows in the library.
            (&format!("$scrypt$ln=1,r=4294967295,p=4294967295${SALT_AND_HASH}"), "must have ln ≥ 1"),
            (&format!("$scrypt$ln=4294967295,r=8,p=1${SALT_AND_HASH}"), "must have ln ≥ 1"),
        ] {
            let told = rule(text);
            assert!(told.starts_with(expected), "{text}: {told}");
        }
    }

    #[test]
    fn debug_output_shows_no_hash() {
        let hash = PasswordHash::parse(&format!("$2b$10${BCRYPT_TAIL}")).unwrap();
        assert_eq!(format!("{hash:?}"), "PasswordHash");
    }

    proptest! {
        #[test]
        fn argon2_costs_are_bounded(m in 8_u32..600_000, t in 1_u32..40, p in 1_u32..40) {
            let text = format!("$argon2id$v=19$m={m},t={t},p={p}${SALT_AND_HASH}");
            let bounded = m <= 262_144 && t <= 16 && p <= 16 && m >= 8 * p;
            prop_assert_eq!(PasswordHash::parse(&text).is_ok(), bounded);
        }

        #[test]
        fn pbkdf2_costs_are_bounded(rounds in 1000_u32..4_000_000) {
            let text = format!("$pbkdf2-sha256$i={rounds},l=32${SALT_AND_HASH}");
            prop_assert_eq!(PasswordHash::parse(&text).is_ok(), rounds <= 2_000_000);
        }

        #[test]
        fn scrypt_costs_are_bounded(log_n in 0_u32..30, r in 0_u32..100, p in 0_u32..30) {
            for form in ["scrypt", "firebase-scrypt"] {
                let text = format!("${form}$ln={log_n},r={r},p={p}${SALT_AND_HASH}");
                let memory = (128_u64 << log_n) * u64::from(r);
                let bounded = log_n >= 1
                    && (1..=64).contains(&r)
                    && (1..=16).contains(&p)
                    && memory <= 256 * 1024 * 1024
                    && memory * u64::from(p) <= 1024 * 1024 * 1024;
                prop_assert_eq!(PasswordHash::parse(&text).is_ok(), bounded);
            }
        }

        #[test]
        fn bcrypt_costs_are_bounded(cost in 0_u32..100) {
            let text = format!("$2b${cost:02}${BCRYPT_TAIL}");
            prop_assert_eq!(PasswordHash::parse(&text).is_ok(), (4..=14).contains(&cost));
        }

        #[test]
        fn no_input_panics(text in "\\$?(argon2id|2b|scrypt|pbkdf2-sha256)?[ -~]{0,120}") {
            let _ = PasswordHash::parse(&text);
        }

        #[test]
        fn no_number_panics(a: u32, b: u32, c: u32) {
            for parameters in [
                format!("scrypt$ln={a},r={b},p={c}"),
                format!("argon2i$m={a},t={b},p={c}"),
                format!("pbkdf2-sha512$i={a},l={b}"),
            ] {
                let _ = PasswordHash::parse(&format!("${parameters}${SALT_AND_HASH}"));
            }
        }
    }
}
