//! The preferences of a browser, in `Accept-Language` and `Accept-Encoding` (RFC 9110 §12.5).

use lambda_http::http::{HeaderMap, header};

/// Returns whether a client accepts gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let preferences: Vec<(&str, u16)> = values.flat_map(preferences).collect();
    let weight = |name: &str| {
        preferences.iter().find(|(coding, _)| coding.eq_ignore_ascii_case(name)).map(|(_, weight)| *weight)
    };
    weight("gzip").or(weight("*")).is_some_and(|weight| weight > 0)
}

/// The index of the language among `known` that a client likes best, if it likes any of them: the one with the greatest
/// weight, and of several the first.
pub(crate) fn preferred_language(headers: &HeaderMap, known: &[&str]) -> Option<usize> {
    let values = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
    let mut wanted: Vec<(&str, u16)> =
        values.flat_map(preferences).filter(|(_, weight)| *weight > 0).collect();
    wanted.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    wanted.iter().find_map(|(range, _)| language(range, known))
}

/// The index of the language among `known` of a tag such as `de-AT` (RFC 5646), whose first part decides.
pub(crate) fn language(tag: &str, known: &[&str]) -> Option<usize> {
    let primary = tag.split(['-', '_']).next().unwrap_or_default();
    known.iter().position(|language| language.eq_ignore_ascii_case(primary))
}

/// The elements of a list such as `de-AT,de;q=0.9,*;q=0.5`, each with its weight in thousandths. An element whose weight
/// has another form counts as unwanted.
fn preferences(list: &str) -> impl Iterator<Item = (&str, u16)> {
    list.split(',').map(|element| {
        let (name, weight) = element.split_once(';').unwrap_or((element, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(thousandths);
        (name.trim(), weight.unwrap_or(0))
    })
}

/// A weight, a number from 0 to 1 with at most three decimals (RFC 9110 §12.4.2), in thousandths.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let is_number = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{whole}{decimals:0<3}").parse().ok()?;
    (is_number && ["0", "1"].contains(&whole) && thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_language_with_the_greatest_weight_is_chosen() {
        for (accepted, expected) in [
            ("de", Some("de")),
            ("DE-at", Some("de")),
            ("en-GB,de;q=0.9", Some("en")),
            ("en;q=0.8, de ; q=0.9", Some("de")),
            ("fr, de;q=0.2, en;q=0.1", Some("de")),
            ("fr;q=1.0,en;q=0.5,de;q=0.5", Some("en")),
            ("de;q=0,en", Some("en")),
            ("de;q=0", None),
            ("de;q=x", None),
            ("de;q=2", None),
            ("de;q=0.0001", None),
            ("fr", None),
            ("*", None),
            ("deu", None),
            ("", None),
        ] {
            let chosen = preferred_language(&headers(header::ACCEPT_LANGUAGE, accepted), &["de", "en"]);
            assert_eq!(chosen.map(|index| ["de", "en"][index]), expected, "{accepted}");
        }
    }

    #[test]
    fn gzip_is_used_if_it_is_accepted() {
        for (accepted, expected) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("gzip;q=0", false),
            ("br", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&headers(header::ACCEPT_ENCODING, accepted)), expected, "{accepted}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn every_weight_of_the_grammar_is_read(weight in 0..=1000_u16) {
            let text = format!("{}.{:03}", weight / 1000, weight % 1000);
            prop_assert_eq!(thousandths(&text), Some(weight));
            prop_assert_eq!(thousandths(text.trim_end_matches('0')), Some(weight));
        }

        #[test]
        fn any_header_is_read(accepted in "[ -~]{0,40}") {
            preferred_language(&headers(header::ACCEPT_LANGUAGE, &accepted), &["de", "en"]);
            accepts_gzip(&headers(header::ACCEPT_ENCODING, &accepted));
        }
    }
}
