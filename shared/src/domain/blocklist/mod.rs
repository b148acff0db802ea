use super::username::normalise;
use super::{EmailAddress, Username};

/// The most common passwords, one on each line, normalised and sorted. `SOURCES.txt` names the sources.
const COMMON: &[u8] = include_bytes!("common.txt");

/// The most digits that make no other password of a word that they follow.
const MAX_DIGITS: usize = 4;

/// The new passwords that are refused because they are guessed first (NIST SP 800-63B-4 §3.1.1.2): the most common ones
/// (OWASP ASVS 5.0, 6.2.4), and the names of the user and the product (6.1.2, 6.2.11), also with up to four digits
/// behind. They are compared in the normalised form of usernames, so that case makes no difference.
#[derive(Clone, Debug)]
pub struct Blocklist {
    product_name: String,
}

impl Blocklist {
    /// A list that also has the name of the product.
    #[must_use]
    pub fn new(product_name: &str) -> Self {
        Self { product_name: normalise(product_name) }
    }

    /// Returns whether `password` is on the list, for a user with this name.
    pub(super) fn contains(&self, password: &str, username: Option<&Username>) -> bool {
        let password = normalise(password);
        is_line(COMMON, password.as_bytes())
            || is_or_numbers(&password, &self.product_name)
            || username.is_some_and(|username| is_or_numbers(&password, username.normalised()))
    }
}

/// Returns whether `password` is the local part of one of the addresses, also with up to four digits behind it.
pub(super) fn is_local_part(password: &str, addresses: &[EmailAddress]) -> bool {
    let password = normalise(password);
    addresses.iter().any(|address| is_or_numbers(&password, &address.local_part().to_ascii_lowercase()))
}

/// Returns whether `password` is `word`, or `word` with up to four digits behind it.
fn is_or_numbers(password: &str, word: &str) -> bool {
    let rest = password.strip_prefix(word);
    rest.is_some_and(|rest| rest.len() <= MAX_DIGITS && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns whether `word` is one of the sorted `lines`, each of which ends with a line feed. Searches the text itself,
/// because a slice of strings would be twice as large and relocated at each start.
fn is_line(mut lines: &[u8], word: &[u8]) -> bool {
    while !lines.is_empty() {
        let (before, after) = lines.split_at(lines.len() / 2);
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let end = after.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| before.len() + end);
        match word.cmp(&lines[start..end]) {
            std::cmp::Ordering::Less => lines = &lines[..start],
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Greater => lines = lines.get(end + 1..).unwrap_or_default(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static BLOCKLIST: LazyLock<Blocklist> = LazyLock::new(|| Blocklist::new("Postern"));
    static COMMON_SET: LazyLock<BTreeSet<&str>> = LazyLock::new(|| common().collect());

    fn common() -> impl Iterator<Item = &'static str> {
        str::from_utf8(COMMON).unwrap().lines()
    }

    fn refuses(password: &str) -> bool {
        BLOCKLIST.contains(password, Some(&Username::parse("St.Huber").unwrap()))
    }

    #[test]
    fn the_list_is_sorted_and_in_the_form_that_is_compared() {
        assert!(common().count() > 20_000);
        assert!(common().is_sorted_by(|a, b| a < b));
        assert!(COMMON.ends_with(b"\n"));
        for word in common() {
            assert!(word.chars().count() >= 8 && normalise(word) == word, "{word}");
        }
    }

    #[test]
    fn every_password_of_the_list_is_refused_in_any_case() {
        for word in common() {
            assert!(refuses(word), "{word}");
            assert!(refuses(&word.to_uppercase()), "{word}");
        }
    }

    #[test]
    fn the_most_common_passwords_are_refused() {
        for password in
            ["password", "12345678", "Passw0rd", "QWERTYUIOP", "iloveyou", "ｐａｓｓｗｏｒｄ", "tttttttt"]
        {
            assert!(refuses(password), "{password}");
        }
    }

    #[test]
    fn the_passwords_of_the_api_documents_are_not_refused() {
        for password in
            ["Password1234!", "SaverPassword1234!", "NewPassword1234!", "old_password", "new_password"]
        {
            assert!(!refuses(password), "{password}");
        }
    }

    #[test]
    fn names_are_refused_with_up_to_four_digits_behind() {
        for name in ["st.huber", "ST.HUBER", "ｓｔ．ｈｕｂｅｒ", "postern", "Postern"] {
            for digits in ["", "1", "12", "2026", "１２３４"] {
                assert!(refuses(&format!("{name}{digits}")), "{name}{digits}");
            }
            for other in ["12345", "!", "1a", "-1", " ", "x", "٣"] {
                assert!(!refuses(&format!("{name}{other}")), "{name}{other}");
            }
            for other in ["1", "x", " "] {
                assert!(!refuses(&format!("{other}{name}")), "{other}{name}");
            }
        }
        assert!(!refuses("st.hube"));
        // Without a username the rest is refused all the same.
        let blocklist = Blocklist::new("Münchner Portal");
        assert!(blocklist.contains("MU\u{308}NCHNER PORTAL1", None) && blocklist.contains("password", None));
        assert!(!blocklist.contains("postern1", None) && !blocklist.contains("st.huber", None));
    }

    #[test]
    fn local_parts_are_refused_like_names() {
        let addresses = ["St.Huber+mail@example.com", "huber@example.com"]
            .map(|address| EmailAddress::parse(address).unwrap());
        for password in ["st.huber+mail", "ST.HUBER+MAIL1234", "huber", "Huber2026"] {
            assert!(is_local_part(password, &addresses), "{password}");
        }
        for password in ["st.huber", "huber@example.com", "huber12345", "example", "password", ""] {
            assert!(!is_local_part(password, &addresses), "{password}");
        }
        assert!(!is_local_part("huber", &[]));
    }

    proptest! {
        #[test]
        fn a_line_is_found_if_and_only_if_it_is_there(
            words in prop::collection::btree_set("[a-c]{1,3}", 0..30),
            word in "[a-c\n]{0,4}",
        ) {
            let lines: String = words.iter().flat_map(|word| [word.as_str(), "\n"]).collect();
            prop_assert_eq!(is_line(lines.as_bytes(), word.as_bytes()), words.contains(&word));
            prop_assert!(words.iter().all(|word| is_line(lines.as_bytes(), word.as_bytes())));
        }

        #[test]
        fn nothing_else_is_refused(password in "[ -~]{1,12}|[a-z0-9]{8}|(st\\.huber|postern)[0-9]{0,6}") {
            let lower = password.to_lowercase();
            let without_digits = lower.trim_end_matches(|last: char| last.is_ascii_digit());
            let is_name = ["st.huber", "postern"].contains(&without_digits)
                && lower.len() - without_digits.len() <= 4;
            prop_assert_eq!(refuses(&password), COMMON_SET.contains(&*lower) || is_name);
        }
    }
}
