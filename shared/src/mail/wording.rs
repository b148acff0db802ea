//! The parts of a mail's text that depend on the language or on text from a client.

use std::time::Duration;

use time::Month;
use unicode_normalization::UnicodeNormalization;

use super::Language;
use crate::domain::{SessionInformation, Timestamp, is_invisible};

/// The most characters that a mail quotes of a client's information or, in its subject, of a username.
const MAX_QUOTED_CHARS: usize = 60;

/// A duration in the units that a person reads, such as `24 hours` or `1 minute 30 seconds`.
pub(super) fn duration(language: Language, duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = match language {
        Language::English => [("hour", "hours"), ("minute", "minutes"), ("second", "seconds")],
        Language::German => [("Stunde", "Stunden"), ("Minute", "Minuten"), ("Sekunde", "Sekunden")],
    };
    let amounts = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    let parts = amounts.into_iter().zip(units).filter(|(amount, _)| *amount > 0);
    let parts =
        parts.map(|(amount, (one, many))| format!("{amount} {}", if amount == 1 { one } else { many }));
    parts.collect::<Vec<_>>().join(" ")
}

/// An instant in words to the minute, such as `26 November 2026, 17:58 UTC`.
pub(super) fn date_and_time(language: Language, instant: Timestamp) -> String {
    let Some(instant) = instant.to_utc() else {
        return String::new();
    };
    let (year, month, day) = (instant.year(), instant.month(), instant.day());
    let time = format!("{:02}:{:02} UTC", instant.hour(), instant.minute());
    match language {
        Language::English => format!("{day} {month} {year}, {time}"),
        Language::German => format!("{day}. {} {year}, {time}", german(month)),
    }
}

fn german(month: Month) -> &'static str {
    match month {
        Month::January => "Januar",
        Month::February => "Februar",
        Month::March => "März",
        Month::April => "April",
        Month::May => "Mai",
        Month::June => "Juni",
        Month::July => "Juli",
        Month::August => "August",
        Month::September => "September",
        Month::October => "Oktober",
        Month::November => "November",
        Month::December => "Dezember",
    }
}

/// A text as one line of visible characters. It can neither end a line of a mail nor change the direction of what is
/// around it.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|character| if is_invisible(character) { ' ' } else { character }).collect()
}

/// The beginning of a text.
pub(super) fn beginning(text: &str) -> String {
    let mut chars = text.chars();
    let mut beginning: String = chars.by_ref().take(MAX_QUOTED_CHARS).collect();
    if chars.next().is_some() {
        beginning.push('…');
    }
    beginning
}

/// The beginning of a client's information about itself, as one line without anything that a mail program would turn
/// into a link: any client can send it, and the mail is signed as the deployment's own.
pub(super) fn quoted(information: &SessionInformation) -> String {
    // Mail programs also know the compatibility forms of these characters, such as a full-width dot.
    let text: Vec<char> = one_line(information.as_str()).nfkc().collect();
    let neighbour = |place: Option<usize>| place.and_then(|place| text.get(place)).copied().unwrap_or(' ');
    let unlinked = text.iter().enumerate().map(|(place, &character)| {
        let (before, after) = (neighbour(place.checked_sub(1)), neighbour(place.checked_add(1)));
        let links = match character {
            '@' | '\u{3002}' => true,
            // A version's number stays, a domain falls apart.
            '.' if before.is_ascii_digit() && after.is_ascii_digit() => false,
            '.' => !after.is_whitespace(),
            '/' => before == '/' || after == '/' || before == ':',
            _ => false,
        };
        if links { ' ' } else { character }
    });
    beginning(&unlinked.collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_in_units_that_people_read() {
        for (seconds, english, german) in [
            (1, "1 second", "1 Sekunde"),
            (90, "1 minute 30 seconds", "1 Minute 30 Sekunden"),
            (600, "10 minutes", "10 Minuten"),
            (3600, "1 hour", "1 Stunde"),
            (3661, "1 hour 1 minute 1 second", "1 Stunde 1 Minute 1 Sekunde"),
            (5400, "1 hour 30 minutes", "1 Stunde 30 Minuten"),
            (7205, "2 hours 5 seconds", "2 Stunden 5 Sekunden"),
            (86_400, "24 hours", "24 Stunden"),
        ] {
            assert_eq!(duration(Language::English, Duration::from_secs(seconds)), english);
            assert_eq!(duration(Language::German, Duration::from_secs(seconds)), german);
        }
    }

    #[test]
    fn instants_are_in_words_of_the_language_with_their_zone() {
        for (seconds, english, german) in [
            (1_795_715_933, "26 November 2026, 17:58 UTC", "26. November 2026, 17:58 UTC"),
            (1_772_323_500, "1 March 2026, 00:05 UTC", "1. März 2026, 00:05 UTC"),
        ] {
            let instant = Timestamp::from_micros(seconds * 1_000_000);
            assert_eq!(date_and_time(Language::English, instant), english);
            assert_eq!(date_and_time(Language::German, instant), german);
        }
    }

    #[test]
    fn client_information_is_short_and_has_nothing_to_link() {
        let long = "x".repeat(61);
        let cut = format!("{}…", "x".repeat(60));
        for (written, shown) in [
            ("Firefox: 69; Mobile: true;", "Firefox: 69; Mobile: true;"),
            ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("Done. Bye.", "Done. Bye."),
            ("https://evil.example/a", "https:  evil example/a"),
            ("www.evil.example", "www evil example"),
            ("//evil", "  evil"),
            ("help@evil.example", "help evil example"),
            ("evil\u{ff0e}example", "evil example"),
            ("evil\u{3002}example", "evil example"),
            ("evil\u{ff61}example", "evil example"),
            ("3.example", "3 example"),
            ("a\u{202e}b\u{200b}c\r\nd\u{2028}e", "a b c  d e"),
            (&long, &cut),
        ] {
            let information = SessionInformation::parse(written.to_owned()).unwrap();
            assert_eq!(quoted(&information), shown, "{written:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_brings_an_invisible_character_into_a_mail(text in ".{1,100}") {
            prop_assert!(!one_line(&text).contains(is_invisible));
            let information = SessionInformation::parse(text).unwrap();
            let quoted = quoted(&information);
            prop_assert!(!quoted.contains(is_invisible) && !quoted.contains("//") && !quoted.contains('@'));
            prop_assert!(quoted.chars().count() <= MAX_QUOTED_CHARS + 1);
        }
    }
}
