use serde::de::DeserializeOwned;

/// The largest body, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// The deepest nesting of a body: the object itself is the first level.
const MAX_NESTING: usize = 128;

/// The reason why a body is refused as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyError {
    /// It is larger than 16 KiB.
    TooLarge,
    /// It is not a JSON object, gives a known field twice, or nests too deeply.
    Malformed,
}

/// Reads a body as `T`, a struct of [`Field`](super::Field)s. It has to be one JSON object.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| BodyError::Malformed)?;
    // serde would also read a struct from an array, and skips unknown fields however deep they are.
    let is_object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
    if !is_object || nesting(text) > MAX_NESTING {
        return Err(BodyError::Malformed);
    }
    serde_json::from_str(text).map_err(|_| BodyError::Malformed)
}

/// How deep the brackets of a JSON text nest.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize as Derive;

    use super::super::Field;
    use super::*;

    #[derive(Default, Derive)]
    #[serde(default)]
    struct Known {
        username: Field,
    }

    fn parsed(body: impl AsRef<[u8]>) -> Result<Known, BodyError> {
        parse(body.as_ref())
    }

    #[test]
    fn nesting_ignores_brackets_in_strings() {
        assert_eq!(nesting(r#"{"a":"[[[\"[["}"#), 1);
        assert_eq!(nesting(r#"{"a":[{"b":[]}]}"#), 4);
    }

    #[test]
    fn a_known_field_may_nest_as_deeply_as_an_unknown_one() {
        for name in ["username", "unknown"] {
            for (levels, fits) in [(127, true), (128, false)] {
                let body = format!(r#"{{"{name}":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
                assert_eq!(parsed(body).is_ok(), fits, "{name} {levels}");
            }
        }
    }

    #[test]
    fn a_number_too_large_for_any_type_is_not_malformed() {
        for number in ["1e999", "123456789012345678901234567890", "-1", "1.5", "1e2"] {
            let known = parsed(format!(r#"{{"username":{number}}}"#)).unwrap_or_default();
            assert!(matches!(known.username, Field::Other), "{number}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parsed(body);
        }

        #[test]
        fn every_json_object_is_read(username in any::<String>()) {
            let body = serde_json::json!({ "username": username, "other": [username] }).to_string();
            let known = parsed(body).unwrap_or_default();
            prop_assert!(matches!(known.username, Field::Text(text) if text == username));
        }
    }
}
